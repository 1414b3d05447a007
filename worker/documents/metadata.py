"""What of a document's metadata a store keeps: scalars, lists of them, and JSON text for the rest."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

Scalar = str | int | float | bool
DocumentMetadata = Mapping[str, Scalar | list[Scalar]]

MOST_VALUES = 1_000
"""Of one document's metadata, those in lists counted. Chroma 1.5.9 takes more than 5,461 of a record and can't bring
them in (SQLite has 32,766 variables a statement): from then on every call to that collection fails."""

RESERVED = ("#", "$", "chroma:")
"""How keys begin that Chroma refuses, or takes and never shows."""


def check(metadata: DocumentMetadata) -> None:
    """Raise ValueError for metadata that would be refused, or harm the collection, and what to do."""
    for key in metadata:
        if not key or key.startswith(RESERVED):
            raise ValueError(f"metadata has the key {key!r}: the store has no such keys, give it another")
    values = sum(len(value) if isinstance(value, list) else 1 for value in metadata.values())
    if values > MOST_VALUES:
        raise ValueError(f"metadata has {values:,} values with those in lists: leave it at {MOST_VALUES:,}")


def scalar(key: str, value: Any) -> Scalar:
    """Return a value as filters and answers can carry it, lists and objects as JSON text. ValueError: a bad number."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"metadata.{key}: more than 64 bits, make it a string")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"metadata.{key}: not a finite number")
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)


def kept(metadata: Iterable[tuple[str, Any]]) -> dict[str, Scalar | list[Scalar]]:
    """Return metadata as it is stored: without what is null or an empty list, and with lists that can be asked into.

    Chroma keeps a list of scalars of one type, for `$contains`; others are JSON text. Raises as ``scalar``.
    """
    stored: dict[str, Scalar | list[Scalar]] = {}
    for key, value in metadata:
        if value is None or value == []:
            continue
        if isinstance(value, list) and len({type(item) for item in value}) == 1 and isinstance(value[0], Scalar):
            stored[key] = [scalar(key, item) for item in value]
        else:
            stored[key] = scalar(key, value)
    return stored
