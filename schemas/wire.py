"""Bytes and Kafka headers to models and back. Imports nothing of Kafka: any client's bytes will do."""

import re
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from schemas.events import AnswerEvent, DeadLetterInfo, QueryEvent

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: in order, names may repeat, values may be null."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"
CORRELATION_ID = "correlation-id"
REPLY_TOPIC = "reply-topic"
PASSED_THROUGH = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE, CORRELATION_ID, REPLY_TOPIC})

ERROR_KIND = "error.kind"
ERROR_CLASS = "error.class"
ERROR_MESSAGE = "error.message"
SOURCE_TOPIC = "source.topic"
SOURCE_PARTITION = "source.partition"
SOURCE_OFFSET = "source.offset"
SOURCE_TIMESTAMP = "source.timestamp"
ATTEMPTS = "attempts"
DEAD_LETTER_HEADERS = {
    ERROR_KIND: "error_kind",
    ERROR_CLASS: "error_class",
    ERROR_MESSAGE: "error_message",
    SOURCE_TOPIC: "source_topic",
    SOURCE_PARTITION: "source_partition",
    SOURCE_OFFSET: "source_offset",
    SOURCE_TIMESTAMP: "source_timestamp",
    ATTEMPTS: "attempts",
}
"""Header name to field of ``DeadLetterInfo``, in the order they are written."""

VALUE_OMITTED = "value.omitted"
"""Header of a dead letter, `true`: the record did not fit the dead-letter topic. The value is null, the record's own
headers and a key of more than 1 kB are left out; all of it stands where `source.*` says, while that topic keeps it."""

MAX_EVENT_BYTES = 1_048_576
"""Kafka's own default limit: a query event of 8,192 characters never comes near."""
MAX_MESSAGE_CHARS = 500
ATTEMPTS_TEXT = re.compile("[0-9]{1,6}")

Event = TypeVar("Event", bound=BaseModel)


class WireError(ValueError):
    """Bytes that are not the event they should be; ``reason`` is short and stable, the message is one line."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(_one_line(message))
        self.reason = reason


def decode_query(value: bytes | None) -> QueryEvent:
    """Read a query event. Raises WireError: tombstone, oversize, invalid_utf8, invalid_json or invalid_schema.

    Of a key that repeats in an object the last one counts.
    """
    if value is not None and len(value) > MAX_EVENT_BYTES:
        raise WireError("oversize", f"the event has {len(value)} bytes; the limit is {MAX_EVENT_BYTES}")
    return _decode(QueryEvent, value)


def decode_answer(value: bytes | None) -> AnswerEvent:
    """Read an answer event, of any size: its candidates can outgrow a query. Raises WireError as ``decode_query``."""
    return _decode(AnswerEvent, value)


def encode_query(event: QueryEvent) -> bytes:
    """Write a query event as UTF-8 JSON; what is not set is left out. ValueError: text with a lone surrogate."""
    return event.model_dump_json(exclude_none=True).encode()


def encode_answer(event: AnswerEvent) -> bytes:
    """Write an answer event as UTF-8 JSON, nulls included: readers find every field. ValueError: a lone surrogate."""
    return event.model_dump_json().encode()


def header(headers: Headers, name: str) -> str | None:
    """Return the last header of this name as text; None if it is absent, null or not UTF-8."""
    value = next((value for key, value in reversed(headers) if key == name), None)
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def passthrough_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers of a query that its answer carries too, in order, repeats kept."""
    return [(name, value) for name, value in headers if name.lower() in PASSED_THROUGH]


def dead_letter_headers(info: DeadLetterInfo, original: Headers) -> list[tuple[str, bytes | None]]:
    """Return the original headers followed by why and where from; of headers that repeat the last ones count."""
    fields = info.model_dump(mode="json")
    added = [(name, fields[field]) for name, field in DEAD_LETTER_HEADERS.items()]
    written = [(name, None if value is None else _one_line(str(value)).encode()) for name, value in added]
    return [*original, *written]


def attempts(headers: Headers) -> int:
    """Return how often the event of a query's headers was tried before: 0 unless it is a replayed dead letter."""
    text = header(headers, ATTEMPTS) or ""
    return int(text) if ATTEMPTS_TEXT.fullmatch(text) else 0


def replay_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers with which a dead letter's event goes round again: the original ones, and its attempts."""
    original = [(name, value) for name, value in headers if name not in DEAD_LETTER_HEADERS]
    return [*original, (ATTEMPTS, str(attempts(headers)).encode())]


def dead_letter_info(headers: Headers) -> DeadLetterInfo:
    """Read back what ``dead_letter_headers`` wrote. Raises WireError: invalid_schema."""
    found = {field: header(headers, name) for name, field in DEAD_LETTER_HEADERS.items()}
    try:
        return DeadLetterInfo.model_validate({field: text for field, text in found.items() if text is not None})
    except ValidationError as error:
        raise WireError("invalid_schema", _summary(error)) from error


def _decode(model: type[Event], value: bytes | None) -> Event:
    if value is None:
        raise WireError("tombstone", "the record has no value; an event is a JSON object")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise WireError("invalid_utf8", f"byte {error.start} of the event is not UTF-8: {error.reason}") from error
    try:
        # Unlike json.loads it refuses NaN, lone surrogates and nesting deeper than 200, none of which could be echoed.
        parsed = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise WireError("invalid_json", f"the event is not JSON: {error}") from error
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise WireError("invalid_schema", _summary(error)) from error


def _summary(error: ValidationError) -> str:
    """Name each wrong field, without echoing its value."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'event'}: {p['msg']}" for p in problems)


def _one_line(text: str) -> str:
    """Fit a message into a header, a log line and a terminal: short, no control characters, no lone surrogates."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 2 * MAX_MESSAGE_CHARS])
    return " ".join(printable.split())[:MAX_MESSAGE_CHARS]
