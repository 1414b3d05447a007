"""What a schema says of a value, and values that don't keep to it."""

import base64

import pytest

from worker.documents.stream.logical_types import readable

DECIMAL = "org.apache.kafka.connect.data.Decimal"


def read(value: object, name: str, scale: int = 0) -> object:
    field = {"field": "column", "name": name, "parameters": {"scale": str(scale)}}
    return readable({"column": value}, {"type": "struct", "fields": [field]})["column"]


def encoded(unscaled: int) -> str:
    return base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()


@pytest.mark.parametrize(
    ("unscaled", "scale", "number"),
    [
        (1250, 2, 12.5),
        (-1250, 2, -12.5),
        (1200, 2, 12.0),
        (0, 2, 0.0),
        (42, 0, 42),
        (42, -3, 42_000),
        (2**63 - 1, 0, 2**63 - 1),
        (2**63, 0, "9223372036854775808"),
        (12345678901234567890123, 5, "123456789012345678.90123"),
        (1, 30, 1e-30),
    ],
)
def test_a_decimal_is_a_number_and_text_where_no_number_is_it(unscaled: int, scale: int, number: object) -> None:
    told = read(encoded(unscaled), DECIMAL, scale)
    assert told == number
    assert type(told) is type(number)


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        ("io.debezium.time.Date", -1, "1969-12-31"),
        ("org.apache.kafka.connect.data.Date", 20784, "2026-11-27"),
        ("io.debezium.time.Time", 36_672_500, "10:11:12.500000"),
        ("org.apache.kafka.connect.data.Time", 36_672_000, "10:11:12"),
        ("io.debezium.time.NanoTime", 36_672_500_000_000, "10:11:12.500000"),
        ("org.apache.kafka.connect.data.Timestamp", 1_795_774_272_123, "2026-11-27T10:11:12.123000"),
        ("io.debezium.time.NanoTimestamp", 1_795_774_272_123_456_789, "2026-11-27T10:11:12.123456"),
        ("io.debezium.time.MicroTimestamp", -1, "1969-12-31T23:59:59.999999"),
    ],
)
def test_a_date_or_a_time_is_text(name: str, count: int, text: str) -> None:
    assert read(count, name) == text


ODD = {
    "null": (None, "io.debezium.time.Date"),
    "infinity": (2**31 - 1, "io.debezium.time.Date"),
    "infinity in microseconds": (2**63 - 1, "io.debezium.time.MicroTimestamp"),
    "a time of 24:00": (86_400_000_000, "io.debezium.time.MicroTime"),
    "a negative time": (-1, "io.debezium.time.MicroTime"),
    "text for a date": ("2026-11-27", "io.debezium.time.Date"),
    "a list": ([20784], "io.debezium.time.Date"),
    "a decimal as a number": (12.5, DECIMAL),
    "no base64": ("12.50", DECIMAL),
    "a decimal of 1 MB": ("A" * 1_000_000, DECIMAL),
    "a struct without a scale": ({"value": "BMsv"}, "io.debezium.data.VariableScaleDecimal"),
    "a type that is text already": ("{}", "io.debezium.data.Json"),
    "a type nobody knows": (7, "com.example.Mine"),
}


@pytest.mark.parametrize(("value", "name"), ODD.values(), ids=ODD.keys())
def test_what_does_not_keep_to_its_schema_is_left_as_it_came(value: object, name: str) -> None:
    assert read(value, name) == value


def test_a_scale_that_would_take_gigabytes_is_left_alone() -> None:
    assert read("AQ==", DECIMAL, 10**9) == "AQ=="
    assert read("AQ==", DECIMAL, -(10**9)) == "AQ=="


NAMELESS = {"fields": [{"field": "id", "name": ["io.debezium.time.Date"]}, {"field": ["id"], "name": DECIMAL}]}


@pytest.mark.parametrize(
    "schema", [None, "struct", {"fields": None}, {"fields": ["id"]}, {"fields": [{}]}, NAMELESS], ids=str
)
def test_a_schema_that_says_nothing_changes_nothing(schema: object) -> None:
    assert readable({"id": 1}, schema) == {"id": 1}
    assert readable("42", schema) == "42"
