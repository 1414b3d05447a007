"""The document event: how any team tells the index that a document has changed or is gone.

The record's key names the document, for a record without a value, by which Kafka says "gone", has nothing else.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic.config import JsonDict

from schemas.events import EventModel
from schemas.limits import MAX_DOCUMENT_ID_CHARS, MAX_METADATA_ENTRIES

_SAYS_WHAT: JsonDict = {
    "if": {"properties": {"op": {"const": "delete"}}, "required": ["op"]},
    "else": {"anyOf": [{"required": ["text"]}, {"required": ["fields"]}]},
}


def _public(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    own = next((key for key in metadata if key.startswith("_")), None)
    if own is not None:
        raise ValueError(f"the key {own!r} begins with an underscore: such keys are the index's own")
    return metadata


Metadata = Annotated[dict[str, JsonValue], AfterValidator(_public), Field(max_length=MAX_METADATA_ENTRIES)]


class DocumentEvent(EventModel):
    """A document as it is from now on, or word that it is gone; so is a record without a value. The key names it."""

    model_config = ConfigDict(json_schema_extra=_SAYS_WHAT)

    op: Literal["upsert", "delete"] | None = None
    """`delete` takes the document out of the index; absent: `upsert`, it is put in or replaced as a whole."""
    id: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_DOCUMENT_ID_CHARS)] | None = None
    """What the record's key says already; anything else is refused."""
    text: Annotated[str, StringConstraints(strict=True)] | None = None
    """The document. It is cut into chunks; a blank one has none, and is not found."""
    fields: dict[str, JsonValue] | None = None
    """In place of `text`: named values of which the worker's `index.text`, `index.title` and `index.metadata` make the
    document."""
    title: Annotated[str, StringConstraints(strict=True)] | None = None
    """Shown with answers, as the metadata `title`; it is not searched."""
    metadata: Metadata | None = None
    """What filters can ask for and answers carry. Lists of scalars of one type can be asked for by `$contains`; other
    lists and objects are kept as JSON text, nulls not at all. Keys do not begin with an underscore."""
    collection: Annotated[str, StringConstraints(strict=True, min_length=3, max_length=512)] | None = None
    """The Chroma collection it stands in from now on, and in no other: one of the worker's `index.collections`; absent:
    as `index.collection` says, or `recall.collection`."""
    format: Literal["text", "markdown"] | None = None
    """How to cut it; absent: as `index.format` says."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.op != "delete" and (self.text is None) == (self.fields is None):
            raise ValueError("an upsert has either text or fields")
        return self
