"""Bytes and Kafka headers to models and back. Imports nothing of Kafka: any client's bytes will do."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.events import AnswerEvent, DeadLetterInfo, QueryEvent

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: in order, names may repeat, values may be null."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"
CORRELATION_ID = "correlation-id"
REPLY_TOPIC = "reply-topic"
PASSED_THROUGH = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE, CORRELATION_ID, REPLY_TOPIC})

MAX_EVENT_BYTES = 1_048_576
"""Kafka's own default limit: a query event of 8,192 characters never comes near."""
MAX_MESSAGE_CHARS = 500

Event = TypeVar("Event", bound=BaseModel)


class WireError(ValueError):
    """Bytes that are not the event they should be; ``reason`` is short and stable, the message is one line."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(" ".join(message.split())[:MAX_MESSAGE_CHARS])
        self.reason = reason


def decode_query(value: bytes | None) -> QueryEvent:
    """Read a query event. Raises WireError: tombstone, oversize, invalid_utf8, invalid_json or invalid_schema."""
    return _decode(QueryEvent, value)


def decode_answer(value: bytes | None) -> AnswerEvent:
    """Read an answer event. Raises WireError as ``decode_query`` does."""
    return _decode(AnswerEvent, value)


def encode_query(event: QueryEvent) -> bytes:
    """Write a query event as UTF-8 JSON; what is not set is left out."""
    return event.model_dump_json(exclude_none=True).encode()


def encode_answer(event: AnswerEvent) -> bytes:
    """Write an answer event as UTF-8 JSON; ``answer`` is written even when null, for readers to rely on."""
    return event.model_dump_json().encode()


def header(headers: Headers, name: str) -> str | None:
    """Return the last header of this name as text; None if it is absent, null or not UTF-8."""
    for key, value in reversed(headers):
        if key == name and value is not None:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def passthrough_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers of a query that its answer carries too, in order, repeats kept."""
    return [(name, value) for name, value in headers if name.lower() in PASSED_THROUGH]


def dead_letter_headers(info: DeadLetterInfo, original: Headers) -> list[tuple[str, bytes | None]]:
    """Return the original headers followed by why and where from."""
    described = {
        "error.kind": info.error_kind,
        "error.class": info.error_class,
        "error.message": info.error_message,
        "source.topic": info.source_topic,
        "source.partition": str(info.source_partition),
        "source.offset": str(info.source_offset),
        "source.timestamp": info.source_timestamp.isoformat() if info.source_timestamp else None,
        "attempts": str(info.attempts),
    }
    added = [(name, None if value is None else value.encode("utf-8", "replace")) for name, value in described.items()]
    return [*original, *added]


def dead_letter_info(headers: Headers) -> DeadLetterInfo:
    """Read back what ``dead_letter_headers`` wrote. Raises WireError: invalid_schema."""
    names = {field.replace("_", ".", 1): field for field in DeadLetterInfo.model_fields if field != "attempts"}
    names["attempts"] = "attempts"
    found: dict[str, Any] = {field: header(headers, name) for name, field in names.items()}
    if found.get("source_timestamp"):
        found["source_timestamp"] = datetime.fromisoformat(found["source_timestamp"])
    try:
        return DeadLetterInfo.model_validate(found)
    except ValidationError as error:
        raise WireError("invalid_schema", _summary(error)) from error


def _decode(model: type[Event], value: bytes | None) -> Event:
    if value is None:
        raise WireError("tombstone", "the record has no value; an event is a JSON object")
    if len(value) > MAX_EVENT_BYTES:
        raise WireError("oversize", f"the event has {len(value)} bytes; the limit is {MAX_EVENT_BYTES}")
    try:
        document = value.decode()
    except UnicodeDecodeError as error:
        raise WireError("invalid_utf8", f"byte {error.start} of the event is not UTF-8: {error.reason}") from error
    try:
        parsed = json.loads(document, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError("invalid_json", f"the event is not JSON: {error}") from error
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise WireError("invalid_schema", _summary(error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _summary(error: ValidationError) -> str:
    """Name each wrong field, without echoing its value."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'event'}: {p['msg']}" for p in problems)
