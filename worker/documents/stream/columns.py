"""A row's columns as text, and templates filled with them. Short: keys and rows share it."""

import json
from collections.abc import Mapping
from typing import Any

from worker.settings.fields import columns_of

Row = Mapping[str, Any]
"""Column names and JSON values: a database's row, or named values of an event."""


def as_text(value: Any) -> str:
    """Return a value as it stands in a text: null is empty, an object or list is JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def missing(template: str, row: Row) -> list[str]:
    """Return the columns a template names and a row lacks, in order."""
    return [name for name in dict.fromkeys(columns_of(template)) if name not in row]


def filled(template: str, row: Row) -> str:
    """Return a template with the row's values in place of their names; one that is missing is empty."""
    return template.format_map({name: as_text(row.get(name)) for name in columns_of(template)})


def listed(names: Mapping[str, Any] | list[str]) -> str:
    """Name columns in a message; their values stay where they are."""
    return ", ".join(map(repr, names)) or "none"
