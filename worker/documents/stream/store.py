"""Documents of several events into one collection, together: read what is there, write what differs, clear up."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.errors import NotFoundError

from worker.documents.chunker import Chunk, Chunker
from worker.documents.indexer import COMMIT_CHUNKS
from worker.documents.stored import DOCUMENT_KEY, SOURCE_KEY, stored_metadata
from worker.documents.stream.changes import Change, Outcome, Plan, Stored, planned
from worker.domain import Item, Result
from worker.errors import FatalError, PoisonError
from worker.recall.chroma_collections import (
    DefaultCollectionMissingError,
    IncompatibleCollectionError,
    make_collection,
    open_collection,
)
from worker.recall.chroma_connection import ChromaConnection, StoreFailedError
from worker.recall.embedder import Embedder
from worker.recall.lexical.index import LexicalIndex

Owner = tuple[object, object]
"""Source and document that a chunk is of."""


class StoreRefusedError(Exception):
    """The store failed at a call of its own accord: perhaps one document's doing, which a smaller batch shows."""


class DocumentStore:
    """One collection. Blocking; one thread, which may be left by a call that does not end: see ``ChromaConnection``."""

    def __init__(  # noqa: PLR0913 - the parts it works with, and how
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
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the collection if there is none, as ``ingest`` does. Raises as ``write``.

        ``source`` is what the documents belong to; ``timeout_s`` is for one call to the store; ``lexical`` is kept by
        the same chunks. ``on_step`` is told of each document that was cut and each batch of chunks that was written.
        """
        self._connection = connection
        self._embedder = embedder
        self._chunker = chunker
        self._name = collection
        self._source = source
        self._top_k = top_k
        self._timeout_s = timeout_s
        self._on_step = on_step
        self._collection: Collection | None = self._call(
            lambda client: make_collection(client, collection, embedder, top_k=top_k)
        )
        self._lexical = lexical
        if lexical is not None:
            lexical.fill(self._collection, self._ask)
        self._most_chunks = min(COMMIT_CHUNKS, self._call(lambda client: client.get_max_batch_size()))

    def stored(self, changes: Sequence[Change]) -> Mapping[str, Stored]:
        """Return the chunks of these documents that the collection holds, by document; raises as ``write``."""
        ids = [change.id for change in changes]
        where: dict[str, Any] = {"$and": [{SOURCE_KEY: self._source}, {DOCUMENT_KEY: {"$in": ids}}]}
        found = self._ask(partial(Collection.get, where=where, include=["metadatas"]))
        stored: dict[str, dict[str, Mapping[str, Any]]] = {}
        for chunk, metadata in zip(found["ids"], found["metadatas"] or [], strict=True):
            stored.setdefault(str(metadata[DOCUMENT_KEY]), {})[chunk] = metadata
        return stored

    def write(self, changes: Sequence[Change], before: Mapping[str, Stored]) -> list[Outcome | Exception]:
        """Bring in the documents of changes, of a document each, where ``before`` stands; return what became of each.

        What is new is written before what is old goes, so that a document is never gone in between. Whatever ends this
        early, doing it again does the rest. Raises TransientError where the store can't be reached, FatalError, and
        whatever else it or the model says of a batch that one of these may be to blame for.
        """
        chunks = [self._chunks(change) for change in changes]
        owners = self._owners([chunk.id for each in chunks for chunk in each])
        results: list[Outcome | Exception] = []
        plans: list[Plan] = []
        for change, wanted in zip(changes, chunks, strict=True):
            own = (self._source, change.id)
            taken = next((chunk.id for chunk in wanted if owners.setdefault(chunk.id, own) != own), None)
            if taken is None:
                plans.append(planned(change, wanted, before.get(change.id, {})))
                results.append(plans[-1].outcome)
            else:
                results.append(_taken(taken, *owners[taken]))
        self._write(plans, before)
        return results

    def _chunks(self, change: Change) -> list[Chunk]:
        chunks = [] if change.document is None else self._chunker.chunks(change.document)
        self._on_step()
        return chunks

    def remove(self, changes: Sequence[Change], before: Mapping[str, Stored]) -> None:
        """Take the documents of changes out, whose chunks ``before`` has; raises as ``write``."""
        self._delete([Plan(change, "deleted", delete=list(before[change.id])) for change in changes])

    def _owners(self, ids: Sequence[str]) -> dict[str, Owner]:
        """Return whose those of the ids are that the collection holds."""
        owners: dict[str, Owner] = {}
        # Chroma refuses to be asked for an id twice, which of two documents only a clash makes.
        for some in _sliced(list(dict.fromkeys(ids)), self._most_chunks):
            held = self._ask(partial(Collection.get, ids=list(some), include=["metadatas"]))
            for chunk, metadata in zip(held["ids"], held["metadatas"] or [], strict=True):
                owners[chunk] = (metadata.get(SOURCE_KEY), metadata.get(DOCUMENT_KEY))
        return owners

    def _write(self, plans: Sequence[Plan], before: Mapping[str, Stored]) -> None:
        new = [(plan.change, chunk) for plan in plans for chunk in plan.write]
        for some in _sliced(new, self._most_chunks):
            self._upsert(some, before)
            self._on_step()
        if self._lexical is not None:
            stands = [chunk for plan in plans if plan.stands and plan.change.may_be_written() for chunk in plan.stands]
            self._lexical.put(self._ask(lambda held: held), {chunk.id: chunk.text for chunk in stands})
        remarked = [plan.change for plan in plans if plan.remark and plan.change.may_be_written()]
        for changes in _sliced(remarked, self._most_chunks):
            marks: list[Any] = [change.mark.stored for change in changes]
            self._ask(partial(Collection.update, ids=[change.id for change in changes], metadatas=marks))
        self._delete(plans)

    def _delete(self, plans: Sequence[Plan]) -> None:
        gone = [chunk for plan in plans if plan.delete and plan.change.may_be_written() for chunk in plan.delete]
        if self._lexical is not None:
            self._lexical.delete(self._ask(lambda held: held), gone)
        for ids in _sliced(gone, self._most_chunks):
            self._ask(partial(Collection.delete, ids=list(ids)))

    def _upsert(self, chunks: Sequence[tuple[Change, Chunk]], before: Mapping[str, Stored]) -> None:
        embeddings = self._embedder.embed_documents([chunk.text for _, chunk in chunks])
        # Looked at after that, for it takes its time.
        left = [index for index, (change, _) in enumerate(chunks) if change.may_be_written()]
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


def _noted(change: Change, chunk: Chunk, source: str, before: Mapping[str, Stored]) -> dict[str, Any]:
    # The first chunk, which has the document's own id, says for all of them how far they have come.
    mark = change.mark.stored if chunk.id == change.id else {}
    stood = before.get(change.id, {}).get(chunk.id, {})
    return stored_metadata(chunk, source, stood, **{DOCUMENT_KEY: change.id}, **mark)


def _taken(chunk: str, source: object, document: object) -> PoisonError:
    return PoisonError(
        "foreign_document",
        f"the id {chunk!r} is already that of a part of {document or 'a document'!r} of {source!r}: give it another, "
        "or index into another collection",
    )


def _sliced(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
