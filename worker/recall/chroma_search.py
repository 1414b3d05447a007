"""One call to Chroma for queries of one collection and filter: rows into candidates, failures into whose they are.

Long: a call and what its rows and failures mean are read together.
"""

import json
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from chromadb.api import ClientAPI
from chromadb.api.types import QueryResult
from chromadb.errors import InvalidArgumentError, NotFoundError

from schemas.events import INVALID_FILTER
from worker.domain import Candidate, Metadata, Query, Recalled
from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.recall.chroma_client import address
from worker.recall.chroma_collections import (
    PRIVATE_PREFIX,
    DanglingPointerError,
    DefaultCollectionMissingError,
    Followed,
    IncompatibleCollectionError,
    OpenCollection,
    Space,
    follow,
)
from worker.recall.chroma_connection import DirectConnection, StoreFailedError, StoreLostError
from worker.recall.embedder import EmbeddingModel, Vectors
from worker.recall.pointer import Readings
from worker.settings import RecallSettings

logger = structlog.get_logger()

TOO_MUCH_FOR_CHROMA = ("too many SQL variables", "Expression tree is too large")
"""What Chroma 1.5.9 answers, as its own failure, to filters beyond SQLite's bounds."""

SCALARS = frozenset({str, int, float, bool})
"""Types of the values of metadata that an answer event can carry."""

Found = Recalled | WorkerError


class ChromaSearch:
    """Searches over one connection. Blocking; call it from one thread at a time."""

    def __init__(self, settings: RecallSettings, embedder: EmbeddingModel, readings: Readings | None = None) -> None:
        """``embedder``: whose vectors are searched with. ``readings`` is told which collection each name reads."""
        self._settings, self._embedder = settings, embedder
        self._readings = readings or Readings()
        self._connection = DirectConnection(settings)
        self._collections: dict[str, Followed] = {}
        self._look_at_s: dict[str, float] = {}
        """When to see whether a name leads elsewhere now, on the monotonic clock."""

    def find(
        self, queries: Sequence[Query], vectors: Vectors, *, within_s: float, after_loss: bool = False
    ) -> Sequence[Found]:
        """Return each query's candidates, or the error that is its own, by one call to the store.

        The queries share collection and filter (``search_key``); ``vectors`` has a row for each. It is made once,
        reads end ``within_s``: see ``DirectConnection.ask``. ``after_loss``: the store broke off in the middle of a
        call and has not answered one since, so it is asked for a sign of life first.
        """
        deadline = time.monotonic() + within_s
        try:
            if after_loss:
                self._await_life(deadline)
            return self._found(queries, vectors, deadline)
        except Exception as error:  # noqa: BLE001 - the stage's boundary: it leaves as one of the three kinds
            if isinstance(error, StoreFailedError) and queries[0].where:
                error = self._judged(error, queries, vectors, deadline)
            return [self._as_worker_error(error, query) for query in queries]

    def close(self) -> None:
        """Let the connection go."""
        self._collections.clear()
        self._connection.close()

    def _await_life(self, deadline: float) -> None:
        try:
            self._connection.ask(lambda client: client.heartbeat(), deadline=deadline)
        except StoreLostError as error:
            # What takes connections and drops them may be a proxy before a store that is away. Only one that has just
            # answered can be said to have died of a query.
            raise TransientError(str(error)) from error

    def _found(self, group: Sequence[Query], vectors: Vectors, deadline: float) -> Sequence[Recalled]:
        _, found = self._searched(group, vectors, deadline)
        return found

    def _searched(
        self, group: Sequence[Query], vectors: Vectors, deadline: float
    ) -> tuple[OpenCollection, Sequence[Recalled]]:
        collection, result = self._connection.ask(lambda client: self._query(client, group, vectors), deadline=deadline)
        return collection, _candidates(collection, result, [query.top_k for query in group])

    def _judged(self, error: StoreFailedError, group: Sequence[Query], vectors: Vectors, deadline: float) -> Exception:
        """Return whose fault it is that the store failed at a filter: the filter's if it answers without it alone."""
        if not any(known in str(error) for known in TOO_MUCH_FOR_CHROMA):  # those that are known need no proof
            try:
                self._found([replace(group[0], where=None, top_k=1)], vectors[:1], deadline)
            except Exception:  # noqa: BLE001 - it fails without the filter too
                return error
            try:
                self._found(group, vectors, deadline)
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
        if known is not None and self._look_at_s[name] <= time.monotonic():
            known = self._looked(client, name, known)
        try:
            used = known or self._open(client, name)
            result = _ask(used.collection, group, vectors)
        except (NotFoundError, InvalidArgumentError):
            if known is None:
                raise
            # Perhaps deleted and made anew since: what is remembered of it, its model too, may be wrong.
            used = self._open(client, name)
            result = _ask(used.collection, group, vectors)
        self._collections[name] = used
        return used.collection, result

    def _looked(self, client: ClientAPI, name: str, known: Followed) -> Followed:
        """Return where the name leads now; where that can't be read, what is known stays: it may well work."""
        self._look_at_s[name] = time.monotonic() + self._settings.follow_s
        try:
            named, was = client.get_collection(name, embedding_function=None), known.named
            unchanged = named.id == was.id and named.metadata == was.metadata
            return known if unchanged else self._open(client, name)
        except Exception as error:  # noqa: BLE001 - of an outage the search itself will tell
            if isinstance(error, (NotFoundError, IncompatibleCollectionError)):
                self._readings.note(name, known.collection.handle.name, why_not=error)
            return known

    def _open(self, client: ClientAPI, name: str) -> Followed:
        look_at_s = time.monotonic() + self._settings.follow_s
        followed = follow(client, name, self._embedder, top_k=self._settings.top_k)
        self._look_at_s[name] = look_at_s
        self._readings.note(name, followed.collection.handle.name, why_not=followed.why_not)
        return followed

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
            case DanglingPointerError() if name == self._settings.collection:
                return DefaultCollectionMissingError(str(error))
            case DanglingPointerError():
                return PoisonError("unknown_collection", str(error))
            case NotFoundError() if name == self._settings.collection:
                # Of the worker's own collection the query knows nothing: it waits, as for a store that is away.
                return DefaultCollectionMissingError(
                    f"The collection {name!r}, recall.collection, does not exist in Chroma at "
                    f"{address(self._settings)}: fill it with `rerank-worker ingest`."
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


def search_key(query: Query) -> Hashable:
    """Return what queries have in common that one call can serve.

    A call fetches the largest ``top_k`` of its queries for each of them, so those of very different size are kept
    apart: nobody pays for more than twice what it asked for.
    """
    return query.collection, _filter_key(query.where), query.top_k.bit_length()


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


def _candidates(collection: OpenCollection, result: QueryResult, top_ks: Sequence[int]) -> list[Recalled]:
    """Turn rows into candidates, at most ``top_ks`` of each.

    A document without text gives nothing to rerank and is left out, and so is one without a distance: Chroma has none
    (null, or infinite in an embedded store) where a vector's numbers are too large to be compared.
    """
    documents, metadatas, distances = result["documents"], result["metadatas"], result["distances"]
    if documents is None or metadatas is None or distances is None:
        raise TransientError("Chroma left out what it was asked for: documents, metadatas and distances.")
    found = []
    for *row, top_k in zip(result["ids"], documents, metadatas, distances, top_ks, strict=True):
        usable = [hit for hit in zip(*row, strict=True) if is_usable(hit[1], hit[3])]
        hits = usable[:top_k]
        similarities = cosine_similarities(collection.space, [hit[3] for hit in hits])
        found.append(
            Recalled(
                # By position, which takes a quarter less: there are `top_k` of them a query.
                Candidate(document_id, text, rank, distance, similarity, public_metadata(metadata or {}))
                for rank, ((document_id, text, metadata, distance), similarity) in enumerate(
                    zip(hits, similarities, strict=True), start=1
                )
            )
        )
    return found


def is_usable(text: str | None, distance: float | None) -> bool:
    """Return whether a row gives a candidate: it needs a text and a distance."""
    return bool(text and not text.isspace()) and distance is not None and math.isfinite(distance)


def cosine_similarities(space: Space | None, distances: Sequence[float]) -> Sequence[float | None]:
    """Return the similarities of distances. Chroma's l2 is squared; l2 and ip are known for unit vectors alone."""
    match space:
        case "cosine" | "ip":
            return [1.0 - distance for distance in distances]
        case "l2":
            return [1.0 - distance / 2.0 for distance in distances]
        case _:
            return [None] * len(distances)


def public_metadata(metadata: Mapping[str, Any]) -> Metadata:
    """Keep of a document's metadata what an answer event can carry: scalars, without the index's own bookkeeping."""
    # A third of what isinstance and startswith take, for each value of each candidate.
    return {key: value for key, value in metadata.items() if type(value) in SCALARS and key[:1] != PRIVATE_PREFIX}
