"""A search over the real Chroma of ``recall_settings``."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.patience import HANG_S
from worker.domain import Query
from worker.recall.chroma_search import ChromaSearch, Found, search_key
from worker.recall.embedder import Embedder
from worker.settings import RecallSettings


class Searching:
    """A ``ChromaSearch`` and its embedder: finds for queries of any kind, one call for those that can share one."""

    def __init__(self, search: ChromaSearch, embedder: Embedder) -> None:
        self._search = search
        self._embedder = embedder

    def search(self, queries: Sequence[Query]) -> list[Found]:
        vectors = self._embedder.embed_queries([query.text for query in queries])
        found: dict[int, Found] = {}
        for key in dict.fromkeys(map(search_key, queries)):
            members = [position for position, query in enumerate(queries) if search_key(query) == key]
            group = [queries[position] for position in members]
            found.update(zip(members, self._search.find(group, vectors[members], within_s=HANG_S), strict=True))
        return [found[position] for position in range(len(queries))]


@pytest.fixture
def search(recall_settings: RecallSettings, embedder: Embedder) -> Iterator[Searching]:
    search = ChromaSearch(recall_settings, embedder)
    yield Searching(search, embedder)
    search.close()


@pytest.fixture
def make_query() -> Callable[..., Query]:
    def make(text: str, **fields: object) -> Query:
        return Query(**({"id": text, "text": text, "collection": "documents", "top_k": 3, "top_n": 2} | fields))

    return make
