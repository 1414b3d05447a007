"""Dates, times and decimals as people write them: in JSON they are bare numbers and bytes, which a schema explains.

Kafka Connect calls it a logical type: a name beside a field's type. Without schemas nothing tells 20784 from a date.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

# Without a zone, as these columns are.
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
DAY = timedelta(days=1)
# 154 digits, more than amounts and ids have: what is longer stays as it came, for to write it out takes the square of
# its length.
MAX_DECIMAL_BYTES = 64
MAX_SCALE = 200
LARGEST_INT = 2**63 - 1


def readable(struct: Any, schema: Any) -> Any:
    """Return a struct with dates and times in ISO 8601, and decimals as numbers, where its schema tells which they are.

    The rest is as it came: lists too, and what is not of the form that the schema promises.
    """
    if not isinstance(struct, dict):
        return struct
    known = {field["field"]: field for field in _fields(schema) if _logical(field) in READERS}
    return {name: _read(value, known[name]) if name in known else value for name, value in struct.items()}


def of_field(schema: Any, name: str) -> Any:
    """Return the schema of one field of a struct, as Connect's JsonConverter writes it; None if there is none."""
    return next((field for field in _fields(schema) if field.get("field") == name), None)


def _fields(schema: Any) -> list[Mapping[str, Any]]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, list):
        return []
    return [field for field in fields if isinstance(field, dict) and isinstance(field.get("field"), str)]


def _logical(field: Mapping[str, Any]) -> str | None:
    name = field.get("name")
    return name if isinstance(name, str) else None


def _read(value: Any, field: Mapping[str, Any]) -> Any:
    try:
        return READERS[field["name"]](value, field)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return value


def _date(days: Any, _field: Mapping[str, Any]) -> str:
    return (EPOCH + timedelta(days=days)).date().isoformat()


def _moment(**unit: float) -> Callable[[Any, Mapping[str, Any]], str]:
    return lambda count, _field: (EPOCH + count * timedelta(**unit)).isoformat()


def _time(**unit: float) -> Callable[[Any, Mapping[str, Any]], Any]:
    def read(count: Any, _field: Mapping[str, Any]) -> Any:
        passed = count * timedelta(**unit)
        # MySQL's TIME may be longer than a day, or negative; PostgreSQL has 24:00.
        return (EPOCH + passed).time().isoformat() if timedelta(0) <= passed < DAY else count

    return read


def _decimal(encoded: Any, field: Mapping[str, Any]) -> int | float | str:
    return _number(encoded, int(field["parameters"]["scale"]))


def _scaled_decimal(struct: Any, _field: Mapping[str, Any]) -> int | float | str:
    return _number(struct["value"], struct["scale"])


def _number(encoded: str, scale: int) -> int | float | str:
    """Return an int, or a float where there is a scale, if that is the number itself and not one near it; else text."""
    raw = base64.b64decode(encoded, validate=True)
    if len(raw) > MAX_DECIMAL_BYTES or abs(scale) > MAX_SCALE:
        raise ValueError("too long to be written out")
    unscaled = int.from_bytes(raw, "big", signed=True)
    if scale <= 0:
        whole = unscaled * 10**-scale
        return whole if abs(whole) <= LARGEST_INT else str(whole)
    # Made of its digits: arithmetic would round it.
    exact = Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale))
    near = float(exact)
    return near if Decimal(repr(near)) == exact else f"{exact:f}"


READERS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "org.apache.kafka.connect.data.Date": _date,
    "org.apache.kafka.connect.data.Time": _time(milliseconds=1),
    "org.apache.kafka.connect.data.Timestamp": _moment(milliseconds=1),
    "io.debezium.data.VariableScaleDecimal": _scaled_decimal,
    "io.debezium.time.Date": _date,
    "io.debezium.time.Time": _time(milliseconds=1),
    "io.debezium.time.MicroTime": _time(microseconds=1),
    "io.debezium.time.Timestamp": _moment(milliseconds=1),
    "io.debezium.time.MicroTimestamp": _moment(microseconds=1),
    "io.debezium.time.NanoTime": lambda count, field: _time(microseconds=1)(count // 1000, field),
    "io.debezium.time.NanoTimestamp": lambda count, field: _moment(microseconds=1)(count // 1000, field),
}
