"""Recall for tests that are not about who waits for whom: embed, then search, on the test's own thread."""

from collections.abc import Sequence

from tests.patience import HANG_S
from worker.domain import Query
from worker.recall.chroma_search import ChromaSearch, Found, search_key
from worker.recall.embedder import Embedder
from worker.settings import RecallSettings


class Searching:
    """A ``ChromaSearch`` and its embedder: one call for all the queries that can share one."""

    def __init__(self, settings: RecallSettings, embedder: Embedder) -> None:
        self._search = ChromaSearch(settings, embedder)
        self._embedder = embedder

    def search(self, queries: Sequence[Query], *, within_s: float = HANG_S, after_loss: bool = False) -> list[Found]:
        vectors = self._embedder.embed_queries([query.text for query in queries])
        found: dict[int, Found] = {}
        for key in dict.fromkeys(map(search_key, queries)):
            members = [position for position, query in enumerate(queries) if search_key(query) == key]
            group = [queries[position] for position in members]
            answers = self._search.find(group, vectors[members], within_s=within_s, after_loss=after_loss)
            found.update(zip(members, answers, strict=True))
        return [found[position] for position in range(len(queries))]

    def close(self) -> None:
        self._search.close()
