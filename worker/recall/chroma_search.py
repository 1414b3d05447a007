"""A batch of queries against Chroma: embedded together, one call per collection and filter."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from chromadb.api import ClientAPI
from chromadb.api.types import QueryResult
from chromadb.errors import InvalidArgumentError, NotFoundError

from schemas.events import INVALID_FILTER
from worker.domain import Candidate, Query
from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.recall.chroma_collections import (
    DefaultCollectionMissingError,
    IncompatibleCollectionError,
    OpenCollection,
    cosine_similarity,
    open_collection,
    public,
)
from worker.recall.chroma_connection import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    ChromaConnection,
    StoreFailedError,
    StoreLostError,
)
from worker.recall.embedder import Embedder, Vectors
from worker.resilience.retry import RetryPolicy
from worker.settings import RecallSettings

logger = structlog.get_logger()

TOO_MUCH_FOR_CHROMA = ("too many SQL variables", "Expression tree is too large")
"""What Chroma 1.5.9 answers, as its own failure, to filters beyond SQLite's bounds."""

Found = Sequence[Candidate] | WorkerError


class ChromaSearch:
    """Recall for whole batches. Blocking; call it from one thread at a time."""

    def __init__(self, settings: RecallSettings, embedder: Embedder) -> None:
        self._settings = settings
        self._embedder = embedder
        self._connection = ChromaConnection(settings)
        self._collections: dict[str, OpenCollection] = {}
        self._lost = False
        """The store broke off in the middle of a call, and has not answered one since."""
        self.calls_ended = 0
        """Grows with every call that ends, however: a thread whose number stands still hangs. Read by the loop."""

    def check(self) -> str | None:
        """Reach the store and search the default collection once: the first search of a cold one is slow.

        Says so if that collection does not exist (yet): queries wait for it. Raises TransientError (not reachable
        within `attempts` tries) or FatalError (not usable).
        """
        probe = Query(id="warm-up", text="warm-up", collection=self._settings.collection, top_k=1, top_n=1)
        policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, self._settings.attempts)
        missing = policy.run_blocking(partial(self._missing, probe))
        if missing is not None:
            logger.warning("default collection does not exist yet", reason=missing)
        return missing

    def _missing(self, probe: Query) -> str | None:
        match self.search([probe])[0]:
            case DefaultCollectionMissingError() as error:
                return str(error)
            case WorkerError() as error:
                raise error
        return None

    def search(self, queries: Sequence[Query]) -> list[Found]:
        """Return each query's candidates, or the error that is its own; a bad filter fails no neighbour.

        Each call, once the queries are embedded, ends within `timeout_s` of its own and is made once: trying again is
        for who can wait elsewhere than on this thread. Those with a filter come last. Raises TransientError if the
        queries could not be embedded in time; any other failure of the embedder may be one question's doing.
        """
        try:
            vectors = self._embedder.embed_queries([query.text for query in queries])
        except TimeoutError as error:
            raise TransientError(f"{self._embedder.model_name!r} did not embed the queries in time") from error
        found: dict[int, Found] = {}
        for members in sorted(_grouped(queries), key=lambda members: bool(queries[members[0]].where)):
            found.update(zip(members, self._search_group(queries, members, vectors), strict=True))
            self.calls_ended += 1
        return [found[position] for position in range(len(queries))]

    def close(self) -> None:
        """Let the connection go."""
        self._collections.clear()
        self._connection.close()

    def _search_group(self, queries: Sequence[Query], members: Sequence[int], vectors: Vectors) -> Sequence[Found]:
        """Search for the queries at the positions ``members``, which share collection and filter."""
        group = [queries[position] for position in members]
        try:
            collection, result = self._ask_once(group, vectors[list(members)])
            return [_candidates(collection, result, row, query.top_k) for row, query in enumerate(group)]
        except Exception as error:  # noqa: BLE001 - the stage's boundary: it leaves as one of the three kinds
            if isinstance(error, StoreFailedError) and group[0].where:
                error = self._judged(error, group, vectors[list(members)])
            return [self._as_worker_error(error, query) for query in group]

    def _ask_once(self, group: Sequence[Query], vectors: Vectors) -> tuple[OpenCollection, QueryResult]:
        deadline = time.monotonic() + self._settings.timeout_s
        try:
            if self._lost:
                # What takes connections and drops them may be a proxy before a store that is away. Only one that has
                # just answered can be said to have died of a query.
                self._connection.run(lambda client: client.heartbeat(), deadline=deadline, attempts=1)
        except StoreLostError as error:
            raise TransientError(str(error)) from error
        try:
            found = self._connection.run(
                lambda client: self._query(client, group, vectors), deadline=deadline, attempts=1
            )
        except StoreLostError:
            self._lost = True
            raise
        self._lost = False
        return found

    def _judged(self, error: StoreFailedError, group: Sequence[Query], vectors: Vectors) -> Exception:
        """Return whose fault it is that the store failed at a filter: the filter's if it answers without it alone."""
        if not any(known in str(error) for known in TOO_MUCH_FOR_CHROMA):  # those that are known need no proof
            try:
                self._ask_once([replace(group[0], where=None, top_k=1)], vectors[:1])
            except Exception:  # noqa: BLE001 - it fails without the filter too
                return error
            try:
                self._ask_once(group, vectors)
            except StoreFailedError as again:
                error = again
            except Exception as other:  # noqa: BLE001 - handed to who classifies it
                return other
            else:
                return error
        return _invalid_filter(group[0], "Chroma fails at the filter, and answers the question without it", error)

    def _query(self, client: ClientAPI, group: Sequence[Query], vectors: Vectors) -> tuple[OpenCollection, QueryResult]:
        name = group[0].collection
        known = self._collections.pop(name, None)
        try:
            collection = known or self._open(client, name)
            result = _ask(collection, group, vectors)
        except (NotFoundError, InvalidArgumentError):
            if known is None:
                raise
            # Perhaps deleted and made anew since: what is remembered of it, its model too, may be wrong.
            collection = self._open(client, name)
            result = _ask(collection, group, vectors)
        self._collections[name] = collection
        return collection, result

    def _open(self, client: ClientAPI, name: str) -> OpenCollection:
        return open_collection(client, name, self._embedder, top_k=self._settings.top_k)

    def _as_worker_error(self, error: Exception, query: Query) -> WorkerError:  # noqa: PLR0911 - one line a kind
        name = query.collection
        match error:
            case WorkerError():
                return error
            case IncompatibleCollectionError() if name == self._settings.collection:
                return FatalError(str(error))
            case IncompatibleCollectionError():
                # The query chose it: one bad event must not end the process.
                return PoisonError("incompatible_collection", str(error))
            case NotFoundError() if name == self._settings.collection:
                # Of the worker's own collection the query knows nothing: it waits, as for a store that is away.
                return DefaultCollectionMissingError(
                    f"The collection {name!r}, recall.collection, does not exist in Chroma at "
                    f"{self._connection.address}: fill it with `rerank-worker ingest`."
                )
            case NotFoundError():
                return PoisonError(
                    "unknown_collection",
                    f"There is no collection {name!r}: fill it with `rerank-worker ingest --collection {name}`, "
                    "or ask for another.",
                )
            case ValueError() | TypeError() | InvalidArgumentError() if query.where:
                return _invalid_filter(query, "Chroma rejects the filter", error)
        return TransientError(f"Searching collection {name!r} failed: {type(error).__name__}: {error}")


def _grouped(queries: Sequence[Query]) -> Iterable[list[int]]:
    """Positions of queries that one call can serve.

    A call fetches the largest ``top_k`` of its queries for each of them, so those of very different size are kept
    apart: nobody pays for more than twice what it asked for.
    """
    groups: dict[tuple[str, str, int], list[int]] = {}
    for position, query in enumerate(queries):
        key = (query.collection, _filter_key(query.where), query.top_k.bit_length())
        groups.setdefault(key, []).append(position)
    return groups.values()


def _invalid_filter(query: Query, what: str, error: Exception) -> PoisonError:
    """Return the error with a sentence of ours; what Chroma says, perhaps of itself, is for who reads the log."""
    logger.warning("invalid filter", query_id=query.id, collection=query.collection, reason=str(error))
    return PoisonError(INVALID_FILTER, f"{what}: {_filter_key(query.where)}")


def _filter_key(where: Mapping[str, Any] | None) -> str:
    return json.dumps(where, sort_keys=True, default=str) if where else ""


def _ask(collection: OpenCollection, group: Sequence[Query], vectors: Vectors) -> QueryResult:
    where = group[0].where
    return collection.handle.query(
        query_embeddings=vectors,
        n_results=max(query.top_k for query in group),
        where=dict(where) if where else None,
        include=["documents", "metadatas", "distances"],
    )


def _candidates(collection: OpenCollection, result: QueryResult, row: int, top_k: int) -> list[Candidate]:
    """Turn one query's row into candidates.

    A document without text gives nothing to rerank and is left out, and so is one without a distance: Chroma has none
    (null, or infinite in an embedded store) where a vector's numbers are too large to be compared.
    """
    documents, metadatas, distances = result["documents"], result["metadatas"], result["distances"]
    if documents is None or metadatas is None or distances is None:
        raise TransientError("Chroma left out what it was asked for: documents, metadatas and distances.")
    hits = zip(result["ids"][row], documents[row], metadatas[row], distances[row], strict=True)
    usable = [hit for hit in hits if hit[1] and not hit[1].isspace() and hit[3] is not None and math.isfinite(hit[3])]
    return [
        Candidate(
            document_id=document_id,
            text=text,
            recall_rank=rank,
            distance=float(distance),
            similarity=cosine_similarity(collection.space, float(distance)),
            metadata=public(metadata or {}),
        )
        for rank, (document_id, text, metadata, distance) in enumerate(usable[:top_k], start=1)
    ]
