"""What Debezium writes for a value it does not have: large, and left alone by the update. Short: its forms alone."""

import base64
import hashlib
import json
import uuid
from typing import Any


class Placeholder:
    """The forms that a connector's `unavailable.value.placeholder` takes, by the type of the column.

    As the PostgreSQL connector of 3.6 writes them; see tests/data/debezium. Of other types (arrays of timestamps, of
    decimals, of floats and of booleans, and a decimal of its default mode) it writes null, which nothing tells from
    another null.
    """

    def __init__(self, text: str) -> None:
        """``text``: what the connector has for text."""
        raw = text.encode()
        # Of bytes base64; of an hstore, which is JSON in a text unless `hstore.handling.mode` is map, one pair.
        self._pair = {text: text}
        self._texts = (text, base64.b64encode(raw).decode(), json.dumps(self._pair, separators=(",", ":")))
        # Of a list of UUIDs the one that Java makes of a name: `UUID.nameUUIDFromBytes`.
        name_uuid = uuid.UUID(bytes=hashlib.md5(raw, usedforsecurity=False).digest(), version=3)
        # Of a list the placeholder as its only item; of numbers, and of dates, which are days, its bytes one by one.
        self._lists = ([text], [self._texts[1]], [str(name_uuid)], list(raw))

    def stands_for(self, value: Any) -> bool:
        """Whether this value of a column says that it was left out."""
        if isinstance(value, list):
            return value in self._lists
        return value == self._pair if isinstance(value, dict) else isinstance(value, str) and value in self._texts
