"""Bytes and Kafka headers to models and back. Imports nothing of Kafka: any client's bytes will do.

Long: what is written and how it is read back stand together.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from schemas import envelopes
from schemas.contexts import ContextsEvent
from schemas.documents import DocumentEvent
from schemas.events import INVALID_FILTER, AnswerEvent, DeadLetterInfo, QueryEvent
from schemas.limits import (
    MAX_DOCUMENT_BYTES,
    MAX_ECHOED_HEADER_BYTES,
    MAX_ECHOED_HEADERS,
    MAX_EVENT_BYTES,
    MAX_ID_CHARS,
    MAX_TEXT_CHARS,
)

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: in order, names may repeat, values may be null."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"
CORRELATION_ID = "correlation-id"
REPLY_TOPIC = "reply-topic"
SPRING = ("kafka_correlationId", "kafka_replyTopic", "kafka_replyPartition")
"""What Spring's ReplyingKafkaTemplate matches its replies by; the last is 4 bytes, not text."""
PASSED_THROUGH = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE, CORRELATION_ID, REPLY_TOPIC, *SPRING})
PASSED_PREFIX = "ce_"
"""The attributes of a CloudEvent in Kafka's binary mode."""
_PASSED = frozenset(name.lower() for name in PASSED_THROUGH)

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

REPLAYED_ATTEMPTS = "rerank-worker.attempts"
"""How often an event that goes round again was tried before. Not ``attempts``, which any producer may use."""

MAX_MESSAGE_CHARS = 500
MAYBE_INFINITE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{309}")
ATTEMPTS_TEXT = re.compile("[0-9]{1,6}")

Event = TypeVar("Event", bound=BaseModel)


class WireError(ValueError):
    """Bytes that are not the event they should be; ``reason`` is short and stable, the message is one line.

    ``query_id`` and ``query_text`` are the event's as far as they could be read all the same, else empty: whoever asked
    may be told of the failure.
    """

    def __init__(self, reason: str, message: str, *, read: object = None) -> None:
        """``read``: the JSON of the event, where it is JSON."""
        super().__init__(one_line(message))
        self.reason = reason
        fields = read if isinstance(read, dict) else {}
        query_id, text = fields.get("id"), fields.get("text")
        # One that is cut would be another query's.
        self.query_id = query_id if isinstance(query_id, str) and len(query_id) <= MAX_ID_CHARS else ""
        self.query_text = text[:MAX_TEXT_CHARS] if isinstance(text, str) else ""


def decode_query(value: bytes | None, headers: Headers = (), *, max_bytes: int = MAX_EVENT_BYTES) -> QueryEvent:
    """Read a query event, also one that a registry's serializer framed or a CloudEvent wraps: see ``envelopes``.

    Raises WireError: tombstone, event_too_large, invalid_utf8, invalid_json, invalid_schema, or invalid_filter if
    nothing but the filter is at fault. Of a key that repeats in an object the last one counts.
    """
    _refuse_too_large(value, max_bytes)
    return _decode(QueryEvent, value, headers)


def decode_document(
    value: bytes | None, headers: Headers = (), *, max_bytes: int = MAX_DOCUMENT_BYTES
) -> DocumentEvent:
    """Read a document event; enveloped, and raises, as ``decode_query``. A tombstone is no event, but says enough."""
    _refuse_too_large(value, max_bytes)
    return _decode(DocumentEvent, value, headers)


def read_json(value: bytes, headers: Headers = (), *, max_bytes: int) -> Any:
    """Return what another system's event says, whatever its shape. Unwraps, and raises, as ``decode_query``."""
    _refuse_too_large(value, max_bytes)
    try:
        return envelopes.unwrapped(_parsed_data(value), _content_type(headers), _parsed_data)
    except envelopes.EnvelopeError as error:
        raise WireError("invalid_schema", str(error)) from error


def decode_answer(value: bytes | None) -> AnswerEvent:
    """Read an answer event, of any size: its candidates can outgrow a query. Raises WireError as ``decode_query``."""
    return _decode(AnswerEvent, value)


def decode_contexts(value: bytes | None) -> ContextsEvent:
    """Read a contexts event, of any size. Raises WireError as ``decode_query``."""
    return _decode(ContextsEvent, value)


def encode_document(event: DocumentEvent) -> bytes:
    """Write a document event as ``encode_query`` does."""
    return event.model_dump_json(exclude_none=True).encode()


def encode_query(event: QueryEvent) -> bytes:
    """Write a query event as UTF-8 JSON; what is not set is left out. ValueError: text with a lone surrogate."""
    return event.model_dump_json(exclude_none=True).encode()


def encode_answer(event: AnswerEvent) -> bytes:
    """Write an answer event as UTF-8 JSON, nulls included: readers find every field. ValueError: a lone surrogate."""
    return event.model_dump_json().encode()


def encode_contexts(event: ContextsEvent) -> bytes:
    """Write a contexts event as UTF-8 JSON, nulls included. ValueError: a lone surrogate."""
    return event.model_dump_json().encode()


def without_trace(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers without the trace's context: another is put in its place."""
    return [each for each in headers if each[0].lower() not in {TRACEPARENT, TRACESTATE}]


def header(headers: Headers, name: str) -> str | None:
    """Return the last header of this name as text; None if it is absent, null or not UTF-8."""
    value = next((value for key, value in reversed(headers) if key == name), None)
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def passthrough_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers of a query that its answer carries too, in order, repeats kept: as many as the limits allow.

    What is beyond them is left out: an answer must fit its topic whatever was put beside the question.
    """
    passed: list[tuple[str, bytes | None]] = []
    left = MAX_ECHOED_HEADER_BYTES
    for name, value in headers:
        if len(passed) == MAX_ECHOED_HEADERS:
            break
        size = len(name.encode(errors="replace")) + len(value or b"")
        if size <= left and (name.lower() in _PASSED or name.lower().startswith(PASSED_PREFIX)):
            passed.append((name, value))
            left -= size
    return passed


def dead_letter_headers(info: DeadLetterInfo, original: Headers) -> list[tuple[str, bytes | None]]:
    """Return the original headers followed by why and where from; of headers that repeat the last ones count."""
    fields = info.model_dump(mode="json")
    added = [(name, fields[field]) for name, field in DEAD_LETTER_HEADERS.items()]
    written = [(name, None if value is None else one_line(str(value)).encode()) for name, value in added]
    return [*original, *written]


def value_omitted(headers: Headers) -> bool:
    """Return whether a dead letter is a note of where its record stands; a producer's own header comes before ours."""
    return bool(headers) and headers[-1] == (VALUE_OMITTED, b"true")


def attempts(headers: Headers) -> int:
    """Return how often the event of a query's headers was tried before: 0 unless it is a replayed dead letter."""
    return _count(header(headers, REPLAYED_ATTEMPTS))


def replay_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers with which a dead letter's event goes round again: the original ones, and its attempts.

    A producer may have headers of the same names: only the last of each is the dead letter's.
    """
    tried = _count(header(headers, ATTEMPTS))
    last = {name: position for position, (name, _) in enumerate(headers)}
    added = {last[name] for name in DEAD_LETTER_HEADERS if name in last}
    original = [
        (name, value)
        for position, (name, value) in enumerate(headers)
        if position not in added and name != REPLAYED_ATTEMPTS
    ]
    return [*original, (REPLAYED_ATTEMPTS, str(tried).encode())]


def dead_letter_info(headers: Headers) -> DeadLetterInfo:
    """Read back what ``dead_letter_headers`` wrote. Raises WireError: invalid_schema."""
    found = {field: header(headers, name) for name, field in DEAD_LETTER_HEADERS.items()}
    try:
        return DeadLetterInfo.model_validate({field: text for field, text in found.items() if text is not None})
    except ValidationError as error:
        raise WireError("invalid_schema", summary(error)) from error


def _count(text: str | None) -> int:
    return int(text) if text is not None and ATTEMPTS_TEXT.fullmatch(text) else 0


def _refuse_too_large(value: bytes | None, max_bytes: int) -> None:
    if value is not None and len(value) > max_bytes:
        raise WireError("event_too_large", f"the event has {len(value)} bytes; the limit is {max_bytes}")


def _decode(model: type[Event], value: bytes | None, headers: Headers = ()) -> Event:
    if value is None:
        raise WireError("tombstone", "the record has no value; an event is a JSON object")
    text, parsed = _parsed(value)
    data = None
    try:
        data = envelopes.unwrapped(parsed, _content_type(headers), _parsed_data) if model is not AnswerEvent else parsed
        # Read twice, on purpose: from bytes pydantic checks values of any kind several times faster than from objects.
        # Only from objects does it see that a number among them is beyond what a float holds.
        if data is not parsed or MAYBE_INFINITE.search(text):
            return model.model_validate(data)
        return model.model_validate_json(text)
    except envelopes.EnvelopeError as error:
        raise WireError("invalid_schema", str(error)) from error
    except ValidationError as error:
        kinds = {problem["type"] for problem in error.errors(include_url=False, include_input=False)}
        reason = INVALID_FILTER if kinds == {INVALID_FILTER} else "invalid_schema"
        raise WireError(reason, summary(error), read=data) from error


def _content_type(headers: Headers) -> str:
    value = next((value for name, value in reversed(headers) if name.lower() == "content-type"), None)
    return (value or b"").decode(errors="replace")


def _parsed(value: bytes) -> tuple[bytes, Any]:
    """Return the JSON text without what frames it, and what it says."""
    text, framed = envelopes.unframed(value)
    hint = "; it is framed for a schema registry, of whose formats only JSON Schema is read" if framed else ""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        message = f"byte {error.start} of the event is not UTF-8: {error.reason}{hint}"
        raise WireError("invalid_utf8", message) from error
    try:
        # Unlike json.loads it refuses NaN, lone surrogates and nesting deeper than 200, none of which could be echoed.
        return text, from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise WireError("invalid_json", f"the event is not JSON: {error}{hint}") from error


def _parsed_data(value: bytes) -> Any:
    return _parsed(value)[1]


_PLAIN_WORDS = {
    "missing": "is missing",
    "string_pattern_mismatch": "must not be blank",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
"""pydantic's kinds of error in words that need no Python."""


def summary(error: ValidationError) -> str:
    """Name each wrong field of an event and what is wrong with it, without echoing its value."""
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'event'}: {_in_plain_words(p)}" for p in problems)


def _in_plain_words(problem: ErrorDetails) -> str:
    words = _PLAIN_WORDS.get(problem["type"])
    return problem["msg"] if words is None else words.format_map(problem.get("ctx", {}))


def one_line(text: str) -> str:
    """Fit a message into a header, a log line and a terminal: short, no control characters, no lone surrogates."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 2 * MAX_MESSAGE_CHARS])
    return " ".join(printable.split())[:MAX_MESSAGE_CHARS]
