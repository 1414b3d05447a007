"""Which document a record is of: its key says so, and nothing else does.

A record without a value has nothing but its key, and the row of a delete is made up of defaults in all its other
columns (Debezium 3.6), so no other part of a record is asked.
"""

import json
import re
from typing import Any

from pydantic_core import from_json

from schemas.envelopes import unframed
from schemas.limits import MAX_DOCUMENT_ID_CHARS
from worker.documents.stream.columns import as_text, filled, listed, missing
from worker.errors import PoisonError

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What serializers of numbers write. A long of eight bytes would pass for a framed key too, and lose its first five."""


def document_id(key: bytes | None, *, template: str | None = None, mongodb: bool = False) -> str:
    """Return the document's id.

    A key is text, a JSON string, or a JSON object of columns, with or without its schema. Of one column the value is
    the id, of several the object as JSON, unless ``template`` says how they make it. ``mongodb``: the one column holds
    extended JSON. Raises PoisonError.
    """
    read = _read(key)
    if mongodb and isinstance(read, dict) and len(read) == 1:
        read = _out_of_extended_json(next(iter(read.values())))
    identifier = _made(read, template)
    if not identifier.strip() or len(identifier) > MAX_DOCUMENT_ID_CHARS:
        raise PoisonError("invalid_key", f"the id is blank or has more than {MAX_DOCUMENT_ID_CHARS} characters")
    if CONTROL.search(identifier):
        raise PoisonError("invalid_key", "the key is binary: have the producer write text or JSON")
    return identifier


def _read(key: bytes | None) -> Any:
    if not key:
        raise PoisonError("invalid_key", "the record has no key, which would name its document")
    text, _ = unframed(key)
    try:
        plain = text.decode()
    except UnicodeDecodeError as error:
        raise PoisonError("invalid_key", f"byte {error.start} of the key is not UTF-8: {error.reason}") from error
    if plain[:1] not in {"{", '"'}:
        return plain
    try:
        parsed = from_json(text, allow_inf_nan=False)
    except ValueError:
        return plain  # a name that begins so
    return parsed["payload"] if isinstance(parsed, dict) and parsed.keys() == {"schema", "payload"} else parsed


def _made(read: Any, template: str | None) -> str:
    if template is not None:
        columns = read if isinstance(read, dict) else {}
        if lacking := missing(template, columns):
            raise PoisonError(
                "invalid_key", f"index.id names {listed(lacking)}; the columns of the key are {listed(columns)}"
            )
        return filled(template, columns)
    if isinstance(read, dict) and len(read) != 1:
        return json.dumps(read, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if read else ""
    return as_text(next(iter(read.values())) if isinstance(read, dict) else read)


def _out_of_extended_json(value: Any) -> Any:
    """Return what MongoDB's `_id` is in plain JSON: its ObjectId's digits, or the value itself."""
    try:
        parsed = from_json(value)
    except (TypeError, ValueError):
        return value
    return parsed["$oid"] if isinstance(parsed, dict) and parsed.keys() == {"$oid"} else parsed
