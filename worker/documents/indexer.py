"""Bringing a collection up to date with documents: only what changed is embedded and written."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from chromadb.api import ClientAPI

from worker.documents.chunker import Chunk, Chunker
from worker.documents.document import Document, ParsedRecord, Rejected
from worker.documents.stored import HASH_KEY, SOURCE_KEY, stored_metadata
from worker.domain import Result
from worker.errors import FatalError
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import Embedder
from worker.recall.lexical.index import LexicalIndex

COMMIT_CHUNKS = 128
"""Chunks embedded and written at once: what an interrupted run has to do again."""

REJECTED_LISTED = 50
"""Rejected records that the error names; the log names all."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What was done, in chunks where nothing else is said."""

    documents: int = 0
    """Documents read, empty ones included."""
    empty: int = 0
    """Documents without any text: left out."""
    rejected: int = 0
    """Records that are no documents: left out."""
    added: int = 0
    updated: int = 0
    skipped: int = 0
    """Found unchanged: neither embedded nor written."""
    deleted: int = 0
    """No longer in their source."""
    seconds: float = 0.0


OnProgress = Callable[[IngestReport], None]
"""Told of the running report after every batch that is safely in the collection, on the ingesting thread."""


class Indexer:
    """One ingestion into one collection. Blocking; for one thread and one run."""

    def __init__(
        self,
        connection: ChromaConnection,
        embedder: Embedder,
        *,
        collection: str,
        top_k: int,
        adopted: Sequence[str] = (),
        lexical: LexicalIndex | None = None,
    ) -> None:
        """Make the collection if there is none, tuned for queries that want ``top_k`` candidates.

        Documents of the sources ``adopted`` may be taken over by others; of no other source. ``lexical`` is kept by the
        same chunks.

        Raises FatalError if there is one built with another model, TransientError if the store can't be reached.
        """
        self._connection = connection
        self._embedder = embedder
        self._name = collection
        self._collection = self._call(lambda client: make_collection(client, collection, embedder, top_k=top_k))
        self._lexical = lexical
        if lexical is not None:
            lexical.fill(self._collection, lambda operation: self._call(lambda _: operation(self._collection)))
        self._batch_limit = min(COMMIT_CHUNKS, self._call(lambda client: client.get_max_batch_size()))
        self._report = IngestReport()
        self._origins: dict[str, str] = {}
        """Where each chunk id of this run comes from: some 200 bytes a chunk, which finds the doubled and the gone."""
        self._sources: set[str] = set()
        self._adopted = frozenset(adopted)
        self._foreign: set[str] = set()
        """Where the documents come from whose ids are another source's."""
        self._rejected: list[str] = []
        self._incomplete: set[str] = set()
        """Sources with rejected records: nothing of theirs is deleted, for it may be a rejected record's."""

    def index(
        self, records: Iterable[ParsedRecord], chunker: Chunker, *, skip_rejected: bool, progress: OnProgress
    ) -> IngestReport:
        """Index every document, then delete what the sources read no longer hold.

        A source that gives no record at all is left alone: a file emptied by accident empties no collection.

        Whatever ends it early, the batches told to ``progress`` stay, and the next run does only the rest. Raises
        FatalError that lists the rejected records at the end, when all others are in, unless ``skip_rejected``; or when
        the store refuses a batch;
        TransientError if the store can't be reached.
        """
        begun_s = time.monotonic()
        pending: list[tuple[Chunk, Document]] = []

        def commit() -> None:
            batch, pending[:] = pending[: self._batch_limit], pending[self._batch_limit :]
            self._commit(batch)
            self._report = replace(self._report, seconds=time.monotonic() - begun_s)
            progress(self._report)

        for record in records:
            if isinstance(record, Rejected):
                self._reject(record)
                continue
            pending.extend((chunk, record) for chunk in self._admit(record, chunker))
            while len(pending) >= self._batch_limit:
                commit()
        if pending:
            commit()
        self._delete_vanished()
        self._report = replace(self._report, seconds=time.monotonic() - begun_s)
        progress(self._report)
        if self._report.rejected and not skip_rejected:
            raise FatalError(self._rejections())
        return self._report

    def _admit(self, record: Document, chunker: Chunker) -> list[Chunk]:
        """Return the chunks to index; none of an empty document or one whose id is taken."""
        self._sources.add(record.source)
        chunks = chunker.chunks(record)
        doubled = next((chunk.id for chunk in chunks if chunk.id in self._origins), None)
        if doubled is not None:
            reason = f"the id {doubled!r} is already that of {self._origins[doubled]}"
            self._reject(Rejected(record.source, record.origin, reason))
            return []
        self._origins.update((chunk.id, record.origin) for chunk in chunks)
        report = self._report
        self._report = replace(report, documents=report.documents + 1, empty=report.empty + (not chunks))
        return chunks

    def _reject(self, record: Rejected) -> None:
        logger.warning("record skipped", origin=record.origin, reason=record.reason)
        self._sources.add(record.source)
        self._incomplete.add(record.source)
        if len(self._rejected) < REJECTED_LISTED:
            self._rejected.append(f"{record.origin}: {record.reason}")
        self._report = replace(self._report, rejected=self._report.rejected + 1)

    def _rejections(self) -> str:
        unlisted = self._report.rejected - len(self._rejected)
        lines = [*self._rejected, *([f"… and {unlisted} more"] if unlisted else [])]
        return (
            "\n  ".join([f"{self._report.rejected} of the records can't be indexed; all others are:", *lines])
            + "\nMend them, or leave such records out with --skip-invalid."
        )

    def _without_foreign(
        self, batch: list[tuple[Chunk, Document]], known: Mapping[str, Mapping[str, Any]]
    ) -> list[tuple[Chunk, Document]]:
        """Leave out the documents whose ids are another source's: each would delete what the other still holds."""
        for chunk, document in batch:
            owner = known.get(chunk.id, {}).get(SOURCE_KEY)
            if owner in {None, document.source} or owner in self._adopted or document.origin in self._foreign:
                continue
            self._foreign.add(document.origin)
            reason = (
                f"the id {chunk.id!r} is already that of a document of the source {owner!r}: give it another, or say "
                f"--adopt {owner} if this source replaces that one"
            )
            self._reject(Rejected(document.source, document.origin, reason))
        return [(chunk, document) for chunk, document in batch if document.origin not in self._foreign]

    def _commit(self, batch: list[tuple[Chunk, Document]]) -> None:
        """Embed and write what the collection does not hold just so."""
        known = self._known([chunk.id for chunk, _ in batch])
        batch = self._without_foreign(batch, known)
        changed = [entry for entry in batch if known.get(entry[0].id, {}).get(HASH_KEY) != entry[0].content_hash]
        if changed:
            embeddings = self._embedder.embed_documents([chunk.text for chunk, _ in changed])
            self._call(
                lambda _: self._collection.upsert(
                    ids=[chunk.id for chunk, _ in changed],
                    embeddings=embeddings,
                    documents=[chunk.text for chunk, _ in changed],
                    metadatas=[
                        stored_metadata(chunk, document.source, known.get(chunk.id, {})) for chunk, document in changed
                    ],
                )
            )
        if self._lexical is not None:
            # What is unchanged too: an earlier run may have ended before this line.
            self._lexical.put(self._collection, {chunk.id: chunk.text for chunk, _ in batch})
        updated = sum(chunk.id in known for chunk, _ in changed)
        report = self._report
        self._report = replace(
            report,
            added=report.added + len(changed) - updated,
            updated=report.updated + updated,
            skipped=report.skipped + len(batch) - len(changed),
        )

    def _known(self, ids: list[str]) -> dict[str, Mapping[str, Any]]:
        """Return the metadata of those of the ids that the collection holds."""
        found = self._call(lambda _: self._collection.get(ids=ids, include=["metadatas"]))
        metadatas = found["metadatas"] or []
        return {identifier: metadata or {} for identifier, metadata in zip(found["ids"], metadatas, strict=True)}

    def _delete_vanished(self) -> None:
        for source in sorted(self._sources - self._incomplete):
            vanished = [identifier for identifier in self._stored_ids(source) if identifier not in self._origins]
            for start in range(0, len(vanished), self._batch_limit):
                self._delete(vanished[start : start + self._batch_limit], source)

    def _stored_ids(self, source: str) -> list[str]:
        return self._call(lambda _: self._collection.get(where={SOURCE_KEY: source}, include=[]))["ids"]

    def _delete(self, ids: list[str], source: str) -> None:
        if self._lexical is not None:
            self._lexical.delete(self._collection, ids)
        # What has become another source's meanwhile stays.
        self._call(lambda _: self._collection.delete(ids=ids, where={SOURCE_KEY: source}))
        if self._lexical is not None:
            stayed = self._call(lambda _: self._collection.get(ids=ids, include=["documents"]))
            self._lexical.put(self._collection, dict(zip(stayed["ids"], stayed["documents"] or [], strict=True)))
        self._report = replace(self._report, deleted=self._report.deleted + len(ids))

    def _call(self, operation: Callable[[ClientAPI], Result]) -> Result:
        return self._connection.ask(operation, doing=f"Ingesting into collection {self._name!r} failed: ")
