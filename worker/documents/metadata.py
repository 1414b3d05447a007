"""What of a document's metadata a store keeps: scalars, lists of them, and JSON text for the rest. Short: two rules."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

Scalar = str | int | float | bool
DocumentMetadata = Mapping[str, Scalar | list[Scalar]]


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
