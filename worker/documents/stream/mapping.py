"""A row's columns → a document, as the settings have it."""

import base64
from collections.abc import Iterable
from typing import Any, Literal

from worker.documents.document import Document
from worker.documents.metadata import kept
from worker.documents.stream.columns import Row, filled, listed
from worker.errors import PoisonError
from worker.settings import IndexSettings
from worker.settings.fields import columns_of


class RowMapping:
    """Makes documents of rows. Pure."""

    def __init__(self, settings: IndexSettings, source: str) -> None:
        """``source`` is what all documents made here belong to."""
        self._settings = settings
        self._source = source
        templates = [each for each in (settings.text, settings.title, settings.collection) if each is not None]
        self._columns = [*dict.fromkeys(name for template in templates for name in columns_of(template))]
        self._columns += [name for name in settings.metadata if name not in self._columns]
        placeholder = settings.unavailable_value
        # A column of bytes has it in base64, one of several values as the only one of them.
        self._unavailable = (placeholder, base64.b64encode(placeholder.encode()).decode())

    def document(
        self,
        identifier: str,
        row: Row,
        *,
        origin: str,
        format: Literal["text", "markdown"] | None = None,  # noqa: A002
    ) -> Document:
        """Return the document of a row. Raises PoisonError: a column is not there, or there and its value is not."""
        settings = self._settings
        if settings.text is None:
            raise PoisonError("invalid_schema", "the event has fields, and index.text does not say which make the text")
        # Each document of MongoDB has fields of its own.
        if settings.events != "mongodb":
            self._refuse([name for name in self._columns if name not in row], row)
        self._refuse_unavailable(row)
        metadata = [(name, row.get(name)) for name in settings.metadata]
        if settings.title is not None:
            metadata.append(("title", filled(settings.title, row) or None))
        return self.described(
            identifier, filled(settings.text, row), metadata, origin=origin, format=format or settings.format
        )

    def collection(self, row: Row) -> str | None:
        """Return where a row's columns want its document, or None if they do not say."""
        return None if self._settings.collection is None else filled(self._settings.collection, row) or None

    def described(
        self,
        identifier: str,
        text: str,
        metadata: Iterable[tuple[str, Any]],
        *,
        origin: str,
        format: Literal["text", "markdown"],  # noqa: A002
    ) -> Document:
        """Return a document of what is known of it already. Raises PoisonError: metadata no store takes."""
        try:
            return Document(identifier, text, self._source, origin, kept(metadata), format)
        except ValueError as error:
            raise PoisonError("invalid_schema", str(error)) from error

    def _refuse(self, lacking: list[str], row: Row) -> None:
        if lacking:
            raise PoisonError(
                "invalid_schema", f"the settings of the index name {listed(lacking)}; the event has {listed(row)}"
            )

    def _refuse_unavailable(self, row: Row) -> None:
        lacking = [name for name in self._columns if self._is_unavailable(row.get(name))]
        if lacking:
            raise PoisonError(
                "unavailable_value",
                f"Debezium left out {listed(lacking)}, large and not changed: the document stays as it was. For "
                "PostgreSQL, ALTER TABLE ... REPLICA IDENTITY FULL has them sent",
            )

    def _is_unavailable(self, value: Any) -> bool:
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        return isinstance(one, str) and one in self._unavailable
