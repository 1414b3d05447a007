"""Documents of several events into a collection, together: read what is there, write what differs, clear up."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.errors import NotFoundError

from worker.documents.chunker import Chunk, Chunker
from worker.documents.document import Document
from worker.documents.indexer import COMMIT_CHUNKS
from worker.documents.stored import HASH_KEY, SOURCE_KEY, stored_metadata
from worker.documents.stream.marks import Mark
from worker.domain import Item, Result
from worker.errors import FatalError, PoisonError
from worker.recall.chroma_collections import (
    PRIVATE_PREFIX,
    DefaultCollectionMissingError,
    IncompatibleCollectionError,
    make_collection,
    open_collection,
)
from worker.recall.chroma_connection import ChromaConnection, StoreFailedError
from worker.recall.embedder import Embedder
from worker.recall.lexical.index import LexicalIndex

DOCUMENT_KEY = f"{PRIVATE_PREFIX}document"
"""Of each chunk: its document's id, by which those are found that a shorter version no longer has."""

Outcome = Literal["written", "unchanged", "deleted", "absent", "superseded", "abandoned"]
Stored = Mapping[str, Mapping[str, Any]]
"""Metadata by the id of the chunk."""


@dataclass(slots=True, eq=False)
class Change:
    """One event's document as it is to stand, and whether anybody still wants it to."""

    id: str
    document: Document | None
    """None: not at all."""
    mark: Mark
    abandoned: bool = False
    """Set on the loop: its partition has left, so nothing more may be written for it."""
    writing: bool = False
    """Set by the thread that writes, before it looks at ``abandoned``: who sets that must wait then."""

    @property
    def chars(self) -> int:
        """Characters of its text: what it weighs in a batch."""
        return 1 if self.document is None else 1 + len(self.document.text)


@dataclass(slots=True)
class _Plan:
    """What one change takes."""

    change: Change
    outcome: Outcome
    write: list[Chunk] = field(default_factory=list)
    remark: bool = False
    """The first chunk stays and gets the mark."""
    delete: list[str] = field(default_factory=list)
    stands: Sequence[Chunk] = ()  # written now or before


class StoreRefusedError(Exception):
    """The store failed at a call of its own accord: perhaps one document's doing, which a smaller batch shows."""


class DocumentStore:
    """One collection. Blocking; one thread, which may be left by a call that does not end: see ``ChromaConnection``."""

    def __init__(
        self,
        connection: ChromaConnection,
        embedder: Embedder,
        chunker: Chunker,
        *,
        collection: str,
        source: str,
        top_k: int,
        timeout_s: float,
        lexical: LexicalIndex | None = None,
    ) -> None:
        """Make the collection if there is none, as ``ingest`` does. Raises as ``apply``, and FatalError.

        ``source`` is what the documents belong to; ``timeout_s`` is for one call to the store. ``lexical`` is kept too.
        """
        self._connection = connection
        self._embedder = embedder
        self._chunker = chunker
        self._name = collection
        self._source = source
        self._top_k = top_k
        self._timeout_s = timeout_s
        self._collection: Collection | None = self._call(
            lambda client: make_collection(client, collection, embedder, top_k=top_k)
        )
        self._lexical = lexical
        if lexical is not None:
            lexical.fill(self._collection, self._ask)
        self._most_chunks = min(COMMIT_CHUNKS, self._call(lambda client: client.get_max_batch_size()))

    def apply(self, changes: Sequence[Change]) -> list[Outcome | Exception]:
        """Bring the collection to where the changes, of a document each, want it; return what became of each.

        What is new is written before what is old goes, so that a document is never gone in between. Whatever ends this
        early, doing it again does the rest. Raises TransientError where the store can't be reached, and whatever else
        it or the model says of a batch that one of these may be to blame for.
        """
        chunks = [[] if each.document is None else self._chunker.chunks(each.document) for each in changes]
        before = self._stored(changes)
        foreign = self._foreign([chunk.id for each in chunks for chunk in each])
        results: list[Outcome | Exception] = []
        plans: list[_Plan] = []
        for change, wanted in zip(changes, chunks, strict=True):
            taken = next((chunk.id for chunk in wanted if chunk.id in foreign), None)
            if taken is None:
                plans.append(_planned(change, wanted, before.get(change.id, {})))
                results.append(plans[-1].outcome)
            else:
                results.append(_taken(taken, foreign[taken]))
        self._write(plans, before)
        return [
            "abandoned" if change.abandoned and not isinstance(result, Exception) else result
            for change, result in zip(changes, results, strict=True)
        ]

    def _stored(self, changes: Sequence[Change]) -> Mapping[str, Stored]:
        """Return the chunks of these documents that the collection holds, by document."""
        ids = [change.id for change in changes]
        where: dict[str, Any] = {"$and": [{SOURCE_KEY: self._source}, {DOCUMENT_KEY: {"$in": ids}}]}
        found = self._ask(partial(Collection.get, where=where, include=["metadatas"]))
        stored: dict[str, dict[str, Mapping[str, Any]]] = {}
        for chunk, metadata in zip(found["ids"], found["metadatas"] or [], strict=True):
            stored.setdefault(str(metadata[DOCUMENT_KEY]), {})[chunk] = metadata
        return stored

    def _foreign(self, ids: Sequence[str]) -> Mapping[str, object]:
        """Return which of the ids are another source's, and whose."""
        owners: dict[str, object] = {}
        for some in _sliced(ids, self._most_chunks):
            held = self._ask(partial(Collection.get, ids=list(some), include=["metadatas"]))
            metadatas = held["metadatas"] or []
            owners |= {chunk: each.get(SOURCE_KEY) for chunk, each in zip(held["ids"], metadatas, strict=True)}
        return {chunk: owner for chunk, owner in owners.items() if owner != self._source}

    def _write(self, plans: Sequence[_Plan], before: Mapping[str, Stored]) -> None:
        new = [(plan.change, chunk) for plan in plans for chunk in plan.write]
        for some in _sliced(new, self._most_chunks):
            self._upsert(some, before)
        if self._lexical is not None:
            stands = [chunk for plan in plans if plan.stands and _may_write(plan.change) for chunk in plan.stands]
            self._lexical.put(self._ask(lambda held: held), {chunk.id: chunk.text for chunk in stands})
        remarked = [plan.change for plan in plans if plan.remark and _may_write(plan.change)]
        for changes in _sliced(remarked, self._most_chunks):
            marks: list[Any] = [change.mark.stored for change in changes]
            self._ask(partial(Collection.update, ids=[change.id for change in changes], metadatas=marks))
        gone = [chunk for plan in plans if plan.delete and _may_write(plan.change) for chunk in plan.delete]
        if self._lexical is not None:
            self._lexical.delete(self._ask(lambda held: held), gone)
        for ids in _sliced(gone, self._most_chunks):
            self._ask(partial(Collection.delete, ids=list(ids)))

    def _upsert(self, chunks: Sequence[tuple[Change, Chunk]], before: Mapping[str, Stored]) -> None:
        embeddings = self._embedder.embed_documents([chunk.text for _, chunk in chunks])
        # Looked at after that, for it takes its time.
        left = [index for index, (change, _) in enumerate(chunks) if _may_write(change)]
        if not left:
            return
        written = [chunks[index] for index in left]
        self._ask(
            partial(
                Collection.upsert,
                ids=[chunk.id for _, chunk in written],
                embeddings=embeddings[left],
                documents=[chunk.text for _, chunk in written],
                metadatas=[_noted(change, chunk, self._source, before) for change, chunk in written],
            )
        )

    def _ask(self, operation: Callable[[Collection], Result]) -> Result:
        """Return what ``operation`` makes of the collection, looked up again if it was made anew or swapped."""

        def ask(client: ClientAPI) -> Result:
            if self._collection is None:
                self._collection = open_collection(client, self._name, self._embedder, top_k=self._top_k).handle
            return operation(self._collection)

        try:
            return self._call(ask)
        except NotFoundError as error:
            self._collection = None
            # Not made here: its documents are on the topic, before what has been committed.
            raise DefaultCollectionMissingError(
                f"The collection {self._name!r} is gone from Chroma at {self._connection.address}; the topic fills "
                "another one by `rerank-worker index --into COLLECTION`"
            ) from error

    def _call(self, operation: Callable[[ClientAPI], Result]) -> Result:
        try:
            return self._connection.run(operation, deadline=time.monotonic() + self._timeout_s)
        except StoreFailedError as error:
            raise StoreRefusedError(str(error)) from error
        except IncompatibleCollectionError as error:
            raise FatalError(str(error)) from error


def _planned(change: Change, wanted: Sequence[Chunk], held: Stored) -> _Plan:
    """Return what it takes to have these chunks of a document where those are."""
    known = Mark.from_stored(held.get(change.id, {}))
    if known is not None and known.is_newer_than(change.mark):
        return _Plan(change, "superseded")
    ids = {chunk.id for chunk in wanted}
    write = [chunk for chunk in wanted if held.get(chunk.id, {}).get(HASH_KEY) != chunk.content_hash]
    delete = [chunk for chunk in held if chunk not in ids]
    if not wanted:
        return _Plan(change, "deleted" if held else "absent", delete=delete)
    if not write and not delete:
        return _Plan(change, "unchanged", stands=wanted)
    return _Plan(change, "written", write, change.id not in {chunk.id for chunk in write}, delete, wanted)


def _noted(change: Change, chunk: Chunk, source: str, before: Mapping[str, Stored]) -> dict[str, Any]:
    # The first chunk, which has the document's own id, says for all of them how far they have come.
    mark = change.mark.stored if chunk.id == change.id else {}
    stood = before.get(change.id, {}).get(chunk.id, {})
    return stored_metadata(chunk, source, stood, **{DOCUMENT_KEY: change.id}, **mark)


def _may_write(change: Change) -> bool:
    change.writing = True
    return not change.abandoned


def _taken(chunk: str, owner: object) -> PoisonError:
    return PoisonError(
        "foreign_document",
        f"the id {chunk!r} is already that of a document of {owner!r}: have index.id make others, or index into "
        "another collection",
    )


def _sliced(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
