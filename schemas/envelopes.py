"""What other systems put around an event: a byte order mark, a schema registry's frame, a CloudEvent.

Each is unambiguous: JSON begins neither with a zero byte nor with a byte order mark.
"""

import base64
from collections.abc import Callable
from typing import Any

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REGISTRY_MAGIC = b"\x00"
REGISTRY_FRAME_BYTES = 5
"""The zero byte and the schema's id, which Confluent's serializers put before the JSON."""

CLOUD_EVENT = "application/cloudevents+json"


class EnvelopeError(ValueError):
    """A CloudEvent without an event in it; the message is one line."""


def unframed(value: bytes) -> tuple[bytes, bool]:
    """Return the JSON of a record's value, and whether it was framed for a schema registry."""
    framed = value.startswith(REGISTRY_MAGIC) and len(value) > REGISTRY_FRAME_BYTES
    return value[REGISTRY_FRAME_BYTES * framed :].removeprefix(BYTE_ORDER_MARK), framed


def unwrapped(parsed: Any, content_type: str, parse: Callable[[bytes], Any]) -> Any:
    """Return the data of a CloudEvent in structured mode; anything else as it is. EnvelopeError if it has none.

    It is one if its content type says so, or if it has `specversion` and data and no `text` of its own. In binary mode
    the attributes are headers (`ce_*`) and the value is the data already. ``parse`` reads data in base64.
    """
    if not isinstance(parsed, dict):
        return parsed
    looks_like_one = "specversion" in parsed and "text" not in parsed and ("data" in parsed or "data_base64" in parsed)
    if not content_type.strip().lower().startswith(CLOUD_EVENT) and not looks_like_one:
        return parsed
    if "data_base64" not in parsed:
        if "data" not in parsed:
            raise EnvelopeError("data: the CloudEvent carries no data, where the query event is expected")
        return parsed["data"]
    try:
        data = base64.b64decode(parsed["data_base64"], validate=True)
    except (TypeError, ValueError) as error:
        raise EnvelopeError("data_base64: the CloudEvent's data is not base64") from error
    return parse(data)
