"""A query event is found in whatever a registry's serializer, an editor or a CloudEvent put around it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import QueryEvent, WireError, decode_query

EVENT = {"id": "q", "text": "Why?"}
PLAIN = json.dumps(EVENT).encode()
ATTRIBUTES = {"specversion": "1.0", "id": "ce-1", "source": "/shop", "type": "question"}
CLOUD_EVENT = json.dumps(ATTRIBUTES | {"data": EVENT}).encode()
IN_BASE64 = json.dumps(ATTRIBUTES | {"data_base64": base64.b64encode(PLAIN).decode()}).encode()
DECLARED = [("Content-Type", b"application/cloudevents+json; charset=UTF-8")]
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(PLAIN, id="as it is"),
        pytest.param(b"\x00\x00\x00\x00\x2a" + PLAIN, id="framed for a schema registry"),
        pytest.param(MARK + PLAIN, id="byte order mark"),
        pytest.param(b"\x00\xff\xff\xff\xff" + MARK + PLAIN, id="both"),
        pytest.param(CLOUD_EVENT, id="CloudEvent"),
        pytest.param(IN_BASE64, id="CloudEvent in base64"),
        pytest.param(b"\x00\x00\x00\x00\x2a" + CLOUD_EVENT, id="framed CloudEvent"),
    ],
)
@pytest.mark.parametrize("headers", [[], [("ce_id", b"1")], [("content-type", None)]], ids=str)
def test_the_event_is_read(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    assert decode_query(value, headers) == QueryEvent(id="q", text="Why?")


def test_a_cloud_event_that_says_so_is_unwrapped_even_if_it_looks_like_a_question() -> None:
    value = json.dumps(ATTRIBUTES | {"text": "an extension attribute", "data": EVENT}).encode()
    assert decode_query(value, DECLARED).text == "Why?"


def test_a_question_with_unknown_fields_is_no_cloud_event() -> None:
    value = json.dumps(EVENT | {"specversion": "1.0", "data": {"id": "other", "text": "other"}}).encode()
    assert decode_query(value).id == "q"


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (b"\x00\x00\x00\x00\x01\x04q1\xff", "invalid_utf8", "only JSON Schema is read"),
        (b"\x00\x00\x00\x00\x01\x04q1", "invalid_json", "only JSON Schema is read"),
        (b"\x00", "invalid_json", "not JSON"),
        (MARK, "invalid_json", "not JSON"),
        (json.dumps(ATTRIBUTES).encode(), "invalid_schema", "carries no data"),
        (json.dumps(ATTRIBUTES | {"data": None}).encode(), "invalid_schema", "must be an object"),
        (json.dumps(ATTRIBUTES | {"data_base64": "%"}).encode(), "invalid_schema", "not base64"),
        (json.dumps(ATTRIBUTES | {"data_base64": 1}).encode(), "invalid_schema", "not base64"),
        (json.dumps(ATTRIBUTES | {"data_base64": "ew=="}).encode(), "invalid_json", "not JSON"),
        (b"[]", "invalid_schema", "must be an object"),
    ],
)
def test_an_envelope_without_an_event_says_what_is_wrong(value: bytes, reason: str, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        decode_query(value, DECLARED)
    assert caught.value.reason == reason


@given(
    st.binary(max_size=60), st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=40)), max_size=4)
)
def test_no_bytes_and_no_headers_are_more_than_refused(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    for around in (value, b"\x00\x00\x00\x00\x01" + value, MARK + value):
        for with_headers in (headers, [*headers, *DECLARED]):
            try:
                decode_query(around, with_headers)
            except WireError:
                continue
