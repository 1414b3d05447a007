"""A record of the documents topic → what is to become of one document."""

from dataclasses import dataclass
from typing import Any

from schemas import wire
from worker.documents.document import Document
from worker.documents.stream.debezium import from_envelope, from_row
from worker.documents.stream.keys import document_id
from worker.documents.stream.mapping import RowMapping
from worker.errors import PoisonError
from worker.kafka.consume.records import Record
from worker.settings import IndexSettings


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a document is to stand in the index."""

    id: str
    document: Document | None
    """None: not at all."""
    collection: str | None
    """Where, and nowhere else; None where ``document`` is."""
    happened_s: float | None
    """When it changed where it comes from, or else when the record was written; Unix seconds; None: nobody says."""


class Decoder:
    """Reads the records of one topic as the settings say. Pure; any thread."""

    def __init__(self, settings: IndexSettings, *, topic: str, collection: str) -> None:
        """Read as ``settings`` say; documents whose events name no collection go to ``collection``."""
        self._settings = settings
        self._collection = collection
        self.source = f"kafka:{topic}"
        """What the documents belong to: those of files, or of other topics, are not this index's to change."""
        self._mapping = RowMapping(settings, self.source)

    def decode(self, record: Record) -> Wanted | None:
        """Return what a record says; None if it says nothing of a document. Raises PoisonError."""
        if record.unreadable_headers is not None:
            raise PoisonError("invalid_headers", record.unreadable_headers)
        if record.value is None:
            return Wanted(self._identify(record), None, None, record.timestamp_s)
        try:
            if self._settings.events == "documents":
                return self._plain(record, record.value)
            parsed = wire.read_json(record.value, record.headers, max_bytes=self._settings.max_event_bytes)
        except wire.WireError as error:
            raise PoisonError(error.reason, str(error)) from error
        change = from_row(parsed) if self._settings.events == "rows" else from_envelope(parsed)
        if change is None:
            return None
        identifier, happened_s = self._identify(record), change.happened_s or record.timestamp_s
        if change.row is None:
            return Wanted(identifier, None, None, happened_s)
        document = self._mapping.document(identifier, change.row, origin=_origin(record))
        return Wanted(identifier, document, self._where(self._mapping.collection(change.row)), happened_s)

    def _identify(self, record: Record) -> str:
        settings = self._settings
        return document_id(record.key, template=settings.id, mongodb=settings.events == "mongodb")

    def _plain(self, record: Record, value: bytes) -> Wanted:
        event = wire.decode_document(value, record.headers, max_bytes=self._settings.max_event_bytes)
        identifier = self._identify(record)
        if event.id not in {None, identifier}:
            raise PoisonError("invalid_key", "the event's id is not what the record's key says")
        if event.op == "delete":
            return Wanted(identifier, None, None, record.timestamp_s)
        named = event.collection or (self._mapping.collection(event.fields) if event.fields else None)
        said: dict[str, Any] = {**(event.metadata or {}), **({"title": event.title} if event.title else {})}
        text, format_ = event.text, event.format or self._settings.format
        if text is None:
            made = self._mapping.document(identifier, event.fields or {}, origin=_origin(record), format=format_)
            # What the event says by itself counts before what its fields make.
            text, said = made.text, {**made.metadata, **said}
        document = self._mapping.described(identifier, text, said.items(), origin=_origin(record), format=format_)
        return Wanted(identifier, document, self._where(named), record.timestamp_s)

    def _where(self, named: str | None) -> str:
        """Return the collection an event wants its document in. Raises PoisonError for one that it may not name."""
        where = named or self._collection
        if where != self._collection and where not in self._settings.collections:
            raise PoisonError(
                "unknown_collection",
                f"the event wants its document in the collection {where!r}, which index.collections does not have",
            )
        return where


def _origin(record: Record) -> str:
    position = record.position
    return f"{position.topic}-{position.partition}@{position.offset}"
