"""Every bound on what comes in, in one place: what is behind the contract is native code that was never bounded.

One filter of 20,000 operands ends a Chroma server, one of a thousand is an error it calls its own fault. So a query
event is measured before anything is done with it (docs/decisions/0009-bounds-in-the-contract.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_EVENT_BYTES = 65_536
"""Of a query event as it comes; a worker may set another number. A question has 8,192 characters at most."""

MAX_ID_CHARS = 128
MAX_TEXT_CHARS = 8_192
MAX_TOP_K = 1_000
MAX_DEADLINE_MS = 604_800_000
"""7 days, Kafka's own default retention: an event is gone before it could be answered later than that."""

MAX_FILTER_DEPTH = 8
"""`$and` and `$or` within each other."""
MAX_FILTER_OPERANDS = 256
"""Comparisons of one filter. Chroma 1.5.9 takes 988: SQLite's expression tree has a depth of 1,000."""
MAX_FILTER_VALUES = 1_000
"""Values of all `$in` and `$nin` lists of one filter. Chroma 1.5.9 takes 16,380: two of SQLite's 32,766 variables
for each."""
MIN_FILTER_INTEGER, MAX_FILTER_INTEGER = -(2**63), 2**63 - 1

MAX_DOCUMENT_BYTES = 1_048_576
"""Of a document event as it comes: what a Kafka topic takes by default. A worker may set another number."""
MAX_DOCUMENT_ID_CHARS = 512
MAX_METADATA_ENTRIES = 128
"""Of one document; Chroma keeps a row for each."""

MAX_ECHOED_HEADERS = 64
MAX_ECHOED_HEADER_BYTES = 16_384
"""Names and values together: a W3C baggage has up to 8,192, a tracestate 512."""

LOGICAL = ("$and", "$or")


def filter_problem(where: Mapping[str, Any]) -> str | None:
    """Return what of a metadata filter is beyond the bounds, in one line; None if nothing is.

    Whether it makes sense is the vector store's to say.
    """
    values = 0
    for operands, (compared, depth) in enumerate(_comparisons(where, 0), 1):
        if depth > MAX_FILTER_DEPTH:
            return f"$and and $or are nested deeper than {MAX_FILTER_DEPTH}"
        if operands > MAX_FILTER_OPERANDS:
            return f"it has more than {MAX_FILTER_OPERANDS} comparisons"
        parts = list(compared.values()) if isinstance(compared, dict) else [compared]
        values += sum(len(part) for part in parts if isinstance(part, list))
        if values > MAX_FILTER_VALUES:
            return f"its lists have more than {MAX_FILTER_VALUES:,} values"
        for value in _scalars(parts):
            if isinstance(value, int) and not MIN_FILTER_INTEGER <= value <= MAX_FILTER_INTEGER:
                return "an integer does not fit into 64 bits"
            if isinstance(value, dict | list):
                return "a comparison holds an object or a list of lists"
    return None


def _comparisons(where: Mapping[str, Any], depth: int) -> Iterator[tuple[object, int]]:
    """Yield what each field is compared with, and how deep; stops to descend beyond what is allowed."""
    for key, value in where.items():
        if key not in LOGICAL or not isinstance(value, list) or depth > MAX_FILTER_DEPTH:
            yield value, depth
            continue
        for operand in value:
            if isinstance(operand, dict) and operand:
                yield from _comparisons(operand, depth + 1)
            else:
                # No comparison, which the store says; but as many of them count as if they were.
                yield None, depth + 1


def _scalars(parts: Sequence[object]) -> Iterator[object]:
    for part in parts:
        if isinstance(part, list):
            yield from part
        else:
            yield part
