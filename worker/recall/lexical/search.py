"""Hybrid recall: what shares the question's words, beside what is near its vector, in one order of `top_k` candidates.

The lexical leg gives ids alone. Text, metadata and vector come from Chroma, by the query's own filter: what the filter
hides, and what has been deleted, is not found, whatever the file still says.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import structlog

from worker.domain import Candidate, Leg, Query, Recalled
from worker.recall.chroma_collections import OpenCollection, Space
from worker.recall.chroma_search import ChromaSearch, cosine_similarities, is_usable, public_metadata
from worker.recall.embedder import EmbeddingModel, Vector, Vectors
from worker.recall.lexical.database import LexicalDamagedError, LexicalError, require_fts5
from worker.recall.lexical.file import LexicalFile
from worker.recall.lexical.fusion import fused
from worker.recall.lexical.index import path_of
from worker.recall.pointer import Readings
from worker.recall.searches import NewSearch
from worker.settings import RecallSettings

LONGEST_S = 2.0
"""For the file to answer a call's questions; what takes longer is done without, and Chroma's own time is left alone."""

FILTERED_MOST = 1_000
"""Ids that a filter is asked of, over all questions of a call: where it lets few through, the first `top_k` may all be
others'."""

MOST_ASKED = 1_000
"""Ids of one call to Chroma, which puts each into a statement of SQLite's."""

logger = structlog.get_logger()

OnSearch = Callable[[float], None]
OnFailure = Callable[[str], None]
Row = Sequence[Any]
"""Text, metadata and vector of a chunk."""


def new_search(
    settings: RecallSettings,
    embedder: EmbeddingModel,
    readings: Readings | None = None,
    *,
    on_lexical: OnSearch = lambda _seconds: None,
    on_failure: OnFailure = lambda _code: None,
) -> NewSearch:
    """Return what makes a slot's search, as the settings want it.

    ``readings`` is as ``ChromaSearch`` has it; ``on_lexical`` is told the seconds of each call's lexical leg,
    ``on_failure`` the code of each that failed. Raises FatalError if SQLite has no full-text search.
    """
    folder = settings.lexical_path
    if folder is None:
        return partial(ChromaSearch, settings, embedder, readings)
    require_fts5()
    told: dict[UUID, str] = {}
    return partial(
        HybridSearch, settings, embedder, folder, told, readings, on_lexical=on_lexical, on_failure=on_failure
    )


class HybridSearch(ChromaSearch):
    """Searches by both legs over one connection and a file a collection. Blocking; one thread at a time."""

    def __init__(
        self,
        settings: RecallSettings,
        embedder: EmbeddingModel,
        folder: Path,
        told: dict[UUID, str],
        readings: Readings | None = None,
        *,
        on_lexical: OnSearch,
        on_failure: OnFailure,
    ) -> None:
        """``told``: what was said last of each collection's file, shared by all searches so that it is said once."""
        super().__init__(settings, embedder, readings)
        self._folder = folder
        self._told = told
        self._on_lexical = on_lexical
        self._on_failure = on_failure
        self._files: dict[UUID, LexicalFile] = {}

    def close(self) -> None:
        """Let the connection and the files go."""
        super().close()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _found(self, group: Sequence[Query], vectors: Vectors, deadline: float) -> Sequence[Recalled]:
        collection, dense = self._searched(group, vectors, deadline)
        begun_s = time.monotonic()
        try:
            lexical = self._lexical(collection, group, deadline)
        except LexicalDamagedError as error:
            return self._without(collection, dense, str(error), code="lexical_damaged")
        except LexicalError as error:
            return self._without(collection, dense, str(error), code=error.code)
        self._told.pop(collection.handle.id, None)
        joined = self._joined(collection, group, vectors, dense, lexical, deadline)
        self._on_lexical(time.monotonic() - begun_s)
        return joined

    def _lexical(self, collection: OpenCollection, group: Sequence[Query], deadline: float) -> list[list[str]]:
        """Return each query's ids by words, best first, those that its filter hides left out."""
        top_k = max(query.top_k for query in group)
        limit = max(top_k, FILTERED_MOST // len(group)) if group[0].where else top_k
        file = self._files.get(collection.handle.id)
        if file is None:
            file = self._files[collection.handle.id] = LexicalFile(path_of(self._folder, collection.handle))
        until = min(deadline, time.monotonic() + LONGEST_S)
        found = file.search([query.text for query in group], limit=limit, deadline=until)
        if group[0].where:
            pages = self._pages(collection, group, {each for ids in found for each in ids}, deadline, [])
            shown = {each for page in pages for each in page["ids"]}
            found = [[each for each in ids if each in shown] for ids in found]
        return [ids[: query.top_k] for ids, query in zip(found, group, strict=True)]

    def _joined(
        self,
        collection: OpenCollection,
        group: Sequence[Query],
        vectors: Vectors,
        dense: Sequence[Recalled],
        lexical: Sequence[Sequence[str]],
        deadline: float,
    ) -> list[Recalled]:
        known = [{each.document_id: each for each in found} for found in dense]
        orders = [fused(list(of), ids) for of, ids in zip(known, lexical, strict=True)]
        wanted = {
            each
            for query, of, order in zip(group, known, orders, strict=True)
            for each in order[: query.top_k]
            if each not in of
        }
        columns = ["documents", "metadatas", "embeddings"]
        rows = {
            chunk: row
            for page in self._pages(collection, group, wanted, deadline, columns)
            for chunk, *row in zip(page["ids"], *(page[name] for name in columns), strict=True)
        }
        joined = []
        for query, vector, of, by_words, order in zip(group, vectors, known, lexical, orders, strict=True):
            others = _candidates(collection, vector, {each: rows[each] for each in order if each in rows})
            found = [of.get(each) or others.get(each) for each in order]
            there = [each for each in found if each is not None][: query.top_k]
            words = set(by_words)
            joined.append(
                Recalled(
                    replace(each, recall_rank=rank, legs=_legs(each.document_id in of, each.document_id in words))
                    for rank, each in enumerate(there, start=1)
                )
            )
        return joined

    def _pages(
        self, collection: OpenCollection, group: Sequence[Query], ids: set[str], deadline: float, include: list[Any]
    ) -> list[Mapping[str, Any]]:
        """Return what Chroma has of those of the chunks that the group's filter shows."""
        where: Any = group[0].where or None
        asked = sorted(ids)

        def get(some: list[str]) -> Mapping[str, Any]:
            return self._connection.ask(
                lambda _: collection.handle.get(ids=some, where=where, include=include), deadline=deadline
            )

        return [get(asked[start : start + MOST_ASKED]) for start in range(0, len(asked), MOST_ASKED)]

    def _without(
        self, collection: OpenCollection, dense: Sequence[Recalled], reason: str, *, code: str
    ) -> list[Recalled]:
        self._on_failure(code)
        if self._told.get(collection.handle.id) != code:
            self._told[collection.handle.id] = code
            logger.warning("done without the lexical leg", collection=collection.handle.name, code=code, reason=reason)
        return [Recalled((replace(each, legs=("dense",)) for each in found), lacks=code) for found in dense]


def _candidates(collection: OpenCollection, vector: Vector, rows: Mapping[str, Row]) -> dict[str, Candidate]:
    """Return rows as candidates, by id, unranked yet: the distance is what Chroma would have told."""
    distances = {chunk: distance(collection.measure, vector, row[2]) for chunk, row in rows.items()}
    usable = [chunk for chunk, row in rows.items() if is_usable(row[0], distances[chunk])]
    similarities = cosine_similarities(collection.space, [distances[chunk] for chunk in usable])
    return {
        chunk: Candidate(chunk, rows[chunk][0], 0, distances[chunk], similarity, public_metadata(rows[chunk][1] or {}))
        for chunk, similarity in zip(usable, similarities, strict=True)
    }


def distance(measure: Space, one: Vector, other: Any) -> float:
    """Return how far two vectors are apart, as Chroma measures it: l2 squared, one less the product otherwise."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if measure == "l2":
        return float(np.sum((a - b) ** 2))
    product = float(a @ b)
    if measure == "cosine":
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return 1.0 - product / lengths if lengths else float("inf")
    return 1.0 - product


def _legs(by_vector: bool, by_words: bool) -> tuple[Leg, ...]:
    if by_vector and by_words:
        return ("dense", "lexical")
    return ("dense",) if by_vector else ("lexical",)
