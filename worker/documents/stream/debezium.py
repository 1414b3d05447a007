"""What Debezium says of a row: its change events, with their schemas or without, and its rows once unwrapped.

As connectors of 3.6 write them; see tests/data/debezium for events of a real one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from worker.documents.stream.columns import Row
from worker.documents.stream.logical_types import of_field, readable
from worker.errors import PoisonError

DELETED = "__deleted"
"""Of ExtractNewRecordState's `rewrite`: "true" or "false", as text."""
TIMES_MS = ("__source_ts_ms", "__ts_ms")
"""Columns that `add.fields` puts beside the row's."""

ROW_OPS = frozenset({"r", "c", "u"})
"""A snapshot's row, an insert, an update."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """What has become of a row."""

    row: Row | None
    """Its columns; None: it is gone."""
    happened_s: float | None
    """When the database changed it, Unix seconds, where the event says so."""


def from_envelope(event: Any) -> RowChange | None:
    """Return what a change event says; None if it is about no row. Raises PoisonError."""
    payload, schema = _unpacked(event)
    if payload is None:
        return RowChange(None, None)
    if not isinstance(payload, dict) or "op" not in payload or not payload.keys() & {"after", "before", "source"}:
        raise PoisonError(
            "invalid_schema",
            "the event is no change event of Debezium, which has `op` and `after`: set index.events to what it is",
        )
    op, source = payload["op"], payload.get("source")
    happened_s = _seconds(source.get("ts_ms")) if isinstance(source, dict) else None
    if op in ROW_OPS:
        return RowChange(readable(_row(payload.get("after"), op), of_field(schema, "after")), happened_s)
    if op == "d":
        return RowChange(None, happened_s)
    if op == "m":  # a message of PostgreSQL's log, about no row
        return None
    if op == "t":
        raise PoisonError(
            "unsupported_operation",
            "the table was emptied by TRUNCATE, which names no rows: delete its documents, or index into another "
            "collection",
        )
    raise PoisonError("unsupported_operation", "the event's `op` is none of r, c, u, d, m, t")


def from_row(event: Any) -> RowChange:
    """Return what a flat object says: it is the row, unless it is marked as deleted. Raises PoisonError."""
    payload, schema = _unpacked(event)
    if payload is None:
        return RowChange(None, None)
    if not isinstance(payload, dict):
        raise PoisonError("invalid_schema", "the event is no object of columns")
    if "op" in payload and isinstance(payload.get("source"), dict) and payload.keys() & {"after", "before"}:
        raise PoisonError("invalid_schema", "the event is a change event of Debezium: set index.events to debezium")
    happened_s = next((_seconds(payload[name]) for name in TIMES_MS if name in payload), None)
    return RowChange(None if payload.get(DELETED) in {"true", True} else readable(payload, schema), happened_s)


def _unpacked(event: Any) -> tuple[Any, Any]:
    """Return what is said, and the schema that came with it."""
    has_schema = isinstance(event, dict) and event.keys() == {"schema", "payload"}
    return (event["payload"], event["schema"]) if has_schema else (event, None)


def _row(after: Any, op: str) -> Mapping[str, Any]:
    # MongoDB's connector writes the document as JSON text.
    row = _parsed(after) if isinstance(after, str) else after
    if isinstance(row, dict) and row:
        return row
    raise PoisonError(
        "invalid_schema",
        f"op {op} without the row's state in `after`: of MongoDB set the connector's capture.mode to "
        "change_streams_update_full",
    )


def _parsed(text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise PoisonError("invalid_json", f"`after` is text, and no JSON: {error}") from error


def _seconds(milliseconds: Any) -> float | None:
    known = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool) and milliseconds > 0
    return milliseconds / 1000 if known else None
