"""Settings of the section `index`; a short file, since a section is a file."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.limits import MAX_DOCUMENT_BYTES
from worker.settings.fields import Count, Names, Section, Template

MOST_COLLECTIONS = 32
"""Every batch of documents asks each for what it holds of them."""


class IndexSettings(Section):
    """What `rerank-worker index` makes of the events it follows."""

    events: Literal["documents", "debezium", "mongodb", "rows"] = "documents"
    """What is on the topic: `documents`, this contract's events; `debezium`, its change events, with or without schema;
    `mongodb`, those of its MongoDB connector; `rows`, flat objects: a new state unwrapped (`__deleted`), an outbox."""
    text: Template | None = None
    """Which columns make a document's text, e.g. `{title}\\n{body}`; null is empty. For all but the `text` of
    `documents`."""
    title: Template | None = None
    """Which columns make the metadata `title`, e.g. `{title}`."""
    id: Template | None = None
    """Which columns of the record's key make the document's id, e.g. `articles/{id}`; without it a key of one column is
    the id as it is, and one of several is JSON. Tables that share a collection need it."""
    metadata: Names = ()
    """Columns that become metadata of the same name; null is left out. In the environment separated by commas."""
    collection: Template | None = None
    """Which columns make the name of the collection a document goes to, e.g. `docs-{tenant}`. Where that makes
    nothing, and without it: `recall.collection`."""
    collections: Annotated[Names, Field(max_length=MOST_COLLECTIONS)] = ()
    """The other collections that documents may go to, by `index.collection` or because their events say so; an event
    that wants another is dead-lettered, `unknown_collection`. All are made at start, and looked into for each document,
    which stands in one of them at a time. In the environment separated by commas."""
    format: Literal["text", "markdown"] = "text"
    """How documents are cut that do not say it themselves: at headings and blocks, or at paragraphs and sentences."""
    unavailable_value: str = "__debezium_unavailable_value"
    """What Debezium writes for a large column that an update left as it was. It is never indexed: such an event is
    dead-lettered, `unavailable_value`, where the column is needed."""
    max_event_bytes: Annotated[int, Field(ge=1_024)] = MAX_DOCUMENT_BYTES
    """Bytes of the largest document event that is read; a larger one is dead-lettered, `event_too_large`."""
    max_batch: Count = 128
    """Most documents that are cut, embedded and written together."""
    max_batch_chars: Count = 262_144
    """Most characters of the documents of one batch; a longer document goes alone."""
