"""Collections: made so that recall knows what is in them, and checked before they are searched."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import structlog
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.errors import NotFoundError

from worker.errors import FatalError, TransientError
from worker.recall.embedder import EmbeddingModel
from worker.recall.pointer import Pointer

MODEL_KEY = "embedding_model"
DIMENSION_KEY = "embedding_dimension"
"""Metadata of every collection made here."""

PRIVATE_PREFIX = "_"
"""Metadata keys of documents that begin so are the index's own and leave with no answer."""

LEAST_EF_SEARCH = 200
"""How far HNSW looks: Chroma's default of 100 loses neighbours, and it should be twice `top_k` at least."""

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")
"""Chroma's rule. Its client puts a name into the URL as it is, so `../..` from a query event would leave the way."""

UNIT_LENGTH_TOLERANCE = 1e-2

logger = structlog.get_logger()

Space = Literal["cosine", "l2", "ip"]


class DefaultCollectionMissingError(TransientError):
    """The collection of queries that name none does not exist (yet)."""


class DanglingPointerError(NotFoundError):
    """A name points to a collection that does not exist."""

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(
            f"The collection {pointer.name!r} points to {pointer.target!r}, which does not exist: have it point to "
            f"another with `rerank-worker collections swap {pointer.name} COLLECTION`."
        )


class IncompatibleCollectionError(Exception):
    """The collection's vectors do not come from the model that embeds the queries."""

    def __init__(self, name: str, contents: str, embedder: EmbeddingModel) -> None:
        super().__init__(
            f"Collection {name!r} holds {contents}, but queries are embedded with {embedder.model_name!r} "
            f"({embedder.dimension} dimensions): set RERANK_WORKER_RECALL__EMBEDDING_MODEL to its model, or ingest "
            "into another collection."
        )


@dataclass(frozen=True, slots=True)
class OpenCollection:
    """A collection that was found compatible."""

    handle: Collection
    """Its name is the collection's own, wherever the name that was asked for points."""
    space: Space | None
    """None if cosine similarity cannot be told from its distances."""
    measure: Space
    """What its distances are."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Where a name leads a reader."""

    collection: OpenCollection
    """The one to read."""
    named: Collection
    """The one of that name: as long as it says the same, so does this."""
    why_not: IncompatibleCollectionError | None
    """Why ``collection`` is not the one that the name points to."""


def find_collection(client: ClientAPI, name: str) -> Collection:
    """Return the collection of that name, whatever is in it; nothing is ever downloaded. Raises NotFoundError."""
    if not NAME.fullmatch(name):
        raise NotFoundError(f"{name!r} cannot be the name of a collection")
    return client.get_collection(name, embedding_function=None)


def find_read(client: ClientAPI, name: str) -> Collection:
    """Return the collection that a name leads to, whatever is in it. Raises NotFoundError."""
    named = find_collection(client, name)
    target = Pointer.of(named).current
    return named if target == name else find_collection(client, target)


def follow(client: ClientAPI, name: str, embedder: EmbeddingModel, *, top_k: int) -> Followed:
    """Open for search what a name points to, or the newest before it that was built with this model.

    Raises as ``open_collection``: IncompatibleCollectionError if nothing is readable with this model.
    """
    named = find_collection(client, name)
    pointer = Pointer.of(named)
    why_not: IncompatibleCollectionError | None = None
    for each in pointer.readable:
        try:
            handle = named if each == name else find_collection(client, each)
            return Followed(_checked(handle, embedder, top_k=top_k), named, why_not)
        except NotFoundError as error:
            # Not passed over: what is older would be read, and nobody told, because the newest was deleted.
            if each == pointer.current:
                raise DanglingPointerError(pointer) from error
        except IncompatibleCollectionError as error:
            why_not = why_not or error
    if why_not is None:
        raise NotFoundError(f"{name!r} was made to point and points nowhere")
    raise why_not


def open_collection(client: ClientAPI, name: str, embedder: EmbeddingModel, *, top_k: int) -> OpenCollection:
    """Open a collection, wherever its name points.

    One that says nothing of its model (made elsewhere) is taken with a warning if its dimension fits. Raises
    IncompatibleCollectionError, and chromadb's NotFoundError if there is none. ``top_k`` is the usual one: a
    collection whose `ef_search` is below twice that is warned about.
    """
    return _checked(find_collection(client, name), embedder, top_k=top_k)


def _checked(handle: Collection, embedder: EmbeddingModel, *, top_k: int) -> OpenCollection:
    name = handle.name
    metadata: Mapping[str, Any] = handle.metadata or {}
    hnsw: Mapping[str, Any] = handle.configuration_json.get("hnsw") or {}
    space: Space | None = hnsw.get("space")
    if MODEL_KEY in metadata:
        _check_recorded(name, metadata, embedder)
    elif not _check_foreign(handle, embedder) and space != "cosine":
        space = None
    if hnsw.get("ef_search", LEAST_EF_SEARCH) < 2 * top_k:
        logger.warning(
            "collection searches less widely than top_k wants",
            collection=name,
            ef_search=hnsw["ef_search"],
            wanted=2 * top_k,
        )
    return OpenCollection(handle=handle, space=space, measure=hnsw.get("space") or "l2")


def make_collection(client: ClientAPI, name: str, embedder: EmbeddingModel, *, top_k: int) -> Collection:
    """Return the collection to write to, created for cosine similarity and this model if there is none.

    Never the one that its name points to: who fills one beside it, or keeps an old one fresh for a way back, names it.
    Raises IncompatibleCollectionError if there is one built with another model, FatalError if it is there to point.
    """
    try:
        handle = open_collection(client, name, embedder, top_k=top_k).handle
    except NotFoundError:
        client.get_or_create_collection(
            name,
            embedding_function=None,
            metadata={MODEL_KEY: embedder.model_name, DIMENSION_KEY: embedder.dimension},
            configuration={"hnsw": {"space": "cosine", "ef_search": max(LEAST_EF_SEARCH, 2 * top_k)}},
        )
        handle = open_collection(client, name, embedder, top_k=top_k).handle
    pointer = Pointer.of(handle)
    if pointer.alone:
        raise FatalError(
            f"Collection {name!r} only points, to {pointer.target!r}, and takes no documents: name that one "
            "(`index --into`, `ingest --collection`)."
        )
    if pointer.target is not None:
        logger.warning("what is written here is not what queries read", collection=name, points_to=pointer.target)
    return handle


def _check_recorded(name: str, metadata: Mapping[str, Any], embedder: EmbeddingModel) -> None:
    built_with, dimension = metadata[MODEL_KEY], metadata.get(DIMENSION_KEY)
    if built_with != embedder.model_name or dimension not in {None, embedder.dimension}:
        raise IncompatibleCollectionError(name, f"vectors of {built_with!r} ({dimension} dimensions)", embedder)


def _check_foreign(handle: Collection, embedder: EmbeddingModel) -> bool:
    """Look at one vector of a collection that does not name its model; true if it has unit length."""
    embeddings = handle.get(limit=1, include=["embeddings"])["embeddings"]
    sample = np.asarray(embeddings if embeddings is not None else [], dtype=np.float32)
    if not sample.size:
        return False
    dimension = sample.shape[1]
    if dimension != embedder.dimension:
        raise IncompatibleCollectionError(handle.name, f"vectors of {dimension} dimensions", embedder)
    logger.warning(
        "collection does not name its embedding model: taken as built with ours",
        collection=handle.name,
        embedding_model=embedder.model_name,
    )
    return abs(float(np.linalg.norm(sample[0])) - 1.0) < UNIT_LENGTH_TOLERANCE
