"""The fields of one record of a JSONL or CSV file, checked."""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from worker.documents.document import Document, ParsedRecord, Rejected
from worker.documents.metadata import scalar


class RecordFields(BaseModel):
    """Those a record may have; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: StrictStr = Field(validation_alias=AliasChoices("text", "content"))
    id: StrictStr | StrictInt | None = Field(default=None, validation_alias=AliasChoices("id", "_id"))
    title: StrictStr | None = None
    metadata: dict[str, Any] | None = None

    def document(self, *, source: str, file: str, origin: str) -> Document:
        """Make it a document; ``origin`` stands in for a missing id. Raises ValueError for metadata no store takes."""
        metadata: dict[str, str | int | float | bool] = {"source": file}
        if self.title:
            metadata["title"] = self.title
        for key, value in (self.metadata or {}).items():
            if value is not None:
                metadata[key] = scalar(key, value)
        identifier = origin if self.id in {None, ""} else str(self.id)
        return Document(id=identifier, text=self.text, source=source, origin=origin, metadata=metadata)


def from_json(line: str, *, source: str, file: str, origin: str) -> ParsedRecord:
    """Read one JSON object."""
    try:
        return RecordFields.model_validate_json(line).document(source=source, file=file, origin=origin)
    except ValueError as error:
        return Rejected(source, origin, _in_words(error))


def from_fields(fields: dict[str, Any], *, source: str, file: str, origin: str) -> ParsedRecord:
    """Read what a table's row says."""
    try:
        return RecordFields.model_validate(fields).document(source=source, file=file, origin=origin)
    except ValueError as error:
        return Rejected(source, origin, _in_words(error))


def _in_words(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    parts = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in error.errors(include_url=False)]
    return "; ".join(f"{where}: {message}" if where else message for where, message in parts)
