"""Every way an event can be wrong, with the outcome it must have: literal bytes, literal reasons."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import structlog
from prometheus_client import CollectorRegistry

from schemas import wire
from schemas.events import AnswerEvent, Models
from worker.domain import Query
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.in_flight import PoisonGuard, held_bytes
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.job import Service
from worker.query.pipeline import OnContexts, Outcome
from worker.settings import Settings
from worker.telemetry.metrics import Metrics

SETTINGS = Settings(worker_id="tests")
ASKED_AT_S = 1_700_000_000.0


@dataclass
class FakePipeline:
    """Finds nothing, or raises as told."""

    error: Exception | None = None

    async def run(self, query: Query, on_contexts: OnContexts | None = None) -> Outcome:
        if self.error is not None:
            raise self.error
        return Outcome(status="no_context")


def event(**changes: object) -> bytes:
    return json.dumps({"id": "q1", "text": "Why?"} | changes).encode()


def record(
    value: bytes | None,
    *,
    key: bytes | None = b"key",
    headers: tuple[tuple[str, bytes | None], ...] = (),
    timestamp_ms: int | None = int(ASKED_AT_S * 1000),
) -> Record:
    return Record(Position("queries", 2, 41), key, value, headers, timestamp_ms)


async def outcome_of(
    consumed: Record,
    error: Exception | None = None,
    *,
    unix_time_s: Callable[[], float] = lambda: ASKED_AT_S + 1,
    guard: PoisonGuard | None = None,
) -> Publication:
    service = Service(
        SETTINGS,
        FakePipeline(error),  # type: ignore[arg-type]  # a fake
        Metrics(CollectorRegistry()),
        Models(embedding="e", cross_encoder="c", prior_weight=0.0),
        guard or PoisonGuard(limit=1.0, window=100),
        ReplyTopics(SETTINGS.kafka),
        unix_time_s,
    )
    publication = await service.job(consumed).run()
    publication.acknowledged()
    return publication


def reason_of(publication: Publication) -> str:
    assert publication.topic == SETTINGS.kafka.dead_letter_topic
    return wire.dead_letter_info(publication.headers).error_class


def answer_of(publication: Publication) -> AnswerEvent:
    assert publication.topic == SETTINGS.kafka.answer_topic
    return wire.decode_answer(publication.value)


MALFORMED = {
    "tombstone": (None, "tombstone"),
    "empty": (b"", "invalid_json"),
    "half": (b'{"id": "q1", "te', "invalid_json"),
    "two documents": (b"{}{}", "invalid_json"),
    "NaN": (b'{"id": "q1", "text": "Why?", "min_score": NaN}', "invalid_json"),
    "a number beyond floats": (b'{"id": "q1", "text": "Why?", "min_score": 1e999}', "invalid_schema"),
    "nested without end": (b"[" * 50_000, "invalid_json"),
    "a lone surrogate": (rb'{"id": "q1", "text": "\ud800"}', "invalid_json"),
    "latin-1": ('{"id": "q1", "text": "où?"}'.encode("latin-1"), "invalid_utf8"),
    "Avro": (b"\x00\x00\x00\x00\x01\x04q1\xff", "invalid_utf8"),
    "a list": (b"[]", "invalid_schema"),
    "null": (b"null", "invalid_schema"),
    "no id": (b'{"text": "Why?"}', "invalid_schema"),
    "no text": (b'{"id": "q1"}', "invalid_schema"),
    "an id that is a number": (event(id=1), "invalid_schema"),
    "an id too long": (event(id="i" * 129), "invalid_schema"),
    "an empty question": (event(text=""), "invalid_schema"),
    "a blank question": (event(text=" \n"), "invalid_schema"),
    "a question too long": (event(text="a" * 8_193), "invalid_schema"),
    "a number as text": (event(top_k="20"), "invalid_schema"),
    "a fraction": (event(top_k=1.5), "invalid_schema"),
    "no documents wanted": (event(top_k=0), "invalid_schema"),
    "a million documents wanted": (event(top_k=1_000_000), "invalid_schema"),
    "a negative deadline": (event(deadline_ms=-1), "invalid_schema"),
    "a text as switch": (event(generate="yes"), "invalid_schema"),
    "a filter that is a list": (event(where=[]), "invalid_schema"),
    "a filter beyond the bounds": (event(where={"$or": [{"a": n} for n in range(257)]}), "invalid_filter"),
    "a short collection": (event(collection="x"), "invalid_schema"),
    "too large": (event(metadata={"padding": "x" * 65_536}), "event_too_large"),
}


@pytest.mark.parametrize(("value", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_event_is_dead_lettered_as_it_came(value: bytes | None, reason: str) -> None:
    headers = (("traceparent", b"00-ab"), ("mine", None))
    publication = await outcome_of(record(value, headers=headers))
    assert reason_of(publication) == reason
    assert publication.value == value
    assert publication.key == b"key"
    assert tuple(publication.headers)[:2] == headers
    info = wire.dead_letter_info(publication.headers)
    assert (info.source_topic, info.source_partition, info.source_offset) == ("queries", 2, 41)
    assert info.source_timestamp.timestamp() == ASKED_AT_S
    assert info.error_kind == "poison"


WELL_FORMED = {
    "unknown fields": record(event(surprise={"nested": [1]}, schema_version="9")),
    "no key": record(event(), key=None),
    "an empty key": record(event(), key=b""),
    "a key that is no text": record(event(), key=b"\xff\x00"),
    "headers that are no text": record(
        event(), headers=(("traceparent", b"\xff"), ("rerank-worker.attempts", b"\xff"))
    ),
    "a null header": record(event(), headers=(("correlation-id", None), ("rerank-worker.attempts", None))),
    "attempts that are no number": record(event(), headers=(("rerank-worker.attempts", b"-1e9"),)),
    "a header twice": record(event(), headers=(("correlation-id", b"1"), ("correlation-id", b"2"))),
    "a byte order of dates": record(event(metadata={"when": "2026-02-30", "nul": "\x00"})),
    "no timestamp": record(event(), timestamp_ms=None),
    "a timestamp of the year 146,138,512": record(event(), timestamp_ms=2**62),
    "a timestamp before time": record(event(), timestamp_ms=-(2**62)),
}


@pytest.mark.parametrize("consumed", WELL_FORMED.values(), ids=WELL_FORMED.keys())
async def test_what_is_odd_and_no_fault_is_answered(consumed: Record) -> None:
    publication = await outcome_of(consumed)
    answer = answer_of(publication)
    assert answer.query_id == "q1"
    assert publication.key == consumed.key
    expected = [(name, value) for name, value in consumed.headers if name in wire.PASSED_THROUGH]
    assert list(publication.headers) == expected


@pytest.mark.parametrize("timestamp_ms", [None, 0, 2**62, -(2**62)])
async def test_no_timestamp_keeps_an_event_from_the_dead_letters(timestamp_ms: int | None) -> None:
    assert reason_of(await outcome_of(record(b"{", timestamp_ms=timestamp_ms))) == "invalid_json"


FAILING = {
    "its own fault": (PoisonError("unknown_collection", "no such collection"), "poison", "unknown_collection"),
    "a stage that gave up": (TransientError("the store is away"), "transient", "retries_exhausted"),
    "a bug": (RuntimeError("unforeseen"), "poison", "internal_error"),
    "memory": (MemoryError(), "poison", "internal_error"),
}


@pytest.mark.parametrize(("error", "kind", "reason"), FAILING.values(), ids=FAILING.keys())
async def test_a_query_that_fails_is_dead_lettered(error: Exception, kind: str, reason: str) -> None:
    publication = await outcome_of(record(event(), headers=(("rerank-worker.attempts", b"4"),)), error)
    info = wire.dead_letter_info(publication.headers)
    assert (info.error_kind, info.error_class, info.attempts) == (kind, reason, 5)
    assert publication.value == event()


async def test_headers_that_can_not_be_read_are_a_dead_letter_with_key_and_value_as_they_came() -> None:
    sent = replace(record(event()), unreadable_headers="a header's name can't be read")
    letter = await outcome_of(sent)
    assert reason_of(letter) == "invalid_headers"
    assert (letter.key, letter.value) == (sent.key, sent.value)


async def test_whatever_decoding_brings_out_is_that_events_own_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: bytes | None) -> None:
        raise RecursionError("unforeseen")

    monkeypatch.setattr(wire, "decode_query", broken)
    assert reason_of(await outcome_of(record(event()))) == "internal_error"


async def test_a_dead_letter_that_does_not_fit_becomes_a_note_of_where_the_record_stands() -> None:
    too_large = PoisonError("answer_too_large", "too large")
    letter = await outcome_of(record(b"{" * 1_000, headers=(("large", b"x" * 1_000),)))
    [note] = letter.refused(too_large) or []
    assert (note.topic, note.key, note.value) == (letter.topic, b"key", None)
    info = wire.dead_letter_info(note.headers)
    assert (info.error_class, info.source_topic, info.source_partition, info.source_offset) == (
        *("invalid_json", "queries"),
        *(2, 41),
    )
    assert wire.header(note.headers, wire.VALUE_OMITTED) == "true"
    assert wire.header(note.headers, "large") is None
    # There is nothing smaller: its partition waits.
    assert note.refused(too_large) is None

    letter = await outcome_of(record(b"{", key=b"k" * 2_000))
    [note] = letter.refused(too_large) or []
    assert note.key is None
    assert held_bytes(note) < 2_000


HOST = "chroma.internal:8000"
WITH_A_HOST = {
    "a store that is away": (
        TransientError(f"{HOST} is away", code="recall_failed"),
        "recall_failed: the vector store",
    ),
    "whatever is away": (TransientError(f"{HOST} is away"), "query_failed: a part"),
    "a bug": (RuntimeError(HOST), "RuntimeError: the worker's log"),
}


@pytest.mark.parametrize(("error", "message"), WITH_A_HOST.values(), ids=WITH_A_HOST.keys())
async def test_a_dead_letter_names_no_host_and_the_log_does(error: Exception, message: str) -> None:
    with structlog.testing.capture_logs() as logs:
        publication = await outcome_of(record(event()), error)
    told = wire.dead_letter_info(publication.headers).error_message
    assert told.startswith(message)
    assert HOST not in str(publication.headers)
    assert HOST in str(logs) or any(log.get("exc_info") for log in logs)


@pytest.mark.parametrize(
    "error", [PoisonError("unknown_collection", "no such collection"), RuntimeError("a bug"), TransientError("away")]
)
async def test_what_only_its_asker_suffers_from_ends_no_worker(error: Exception) -> None:
    guard = PoisonGuard(limit=0.0, window=2)
    for _ in range(5):
        await outcome_of(record(event()), error, guard=guard)


async def test_what_is_no_query_event_counts_as_poison() -> None:
    guard = PoisonGuard(limit=0.5, window=2)
    await outcome_of(record(b"{"), guard=guard)
    with pytest.raises(FatalError, match="2 of the last 2"):
        await outcome_of(record(b"{"), guard=guard)


async def test_the_same_id_twice_is_answered_twice() -> None:
    # Ids are the producer's: only it can tell a repeat from a question asked again.
    first, second = await outcome_of(record(event())), await outcome_of(record(event(text="How?")))
    assert (answer_of(first).query_text, answer_of(second).query_text) == ("Why?", "How?")


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
async def test_a_clock_that_jumps_spoils_a_time_and_no_answer(jump_s: float) -> None:
    times = iter([ASKED_AT_S + 1, *[ASKED_AT_S + 1 + jump_s] * 5])
    answer = answer_of(await outcome_of(record(event()), unix_time_s=lambda: next(times)))
    assert answer.timings_ms.queue == 1_000
    assert answer.timings_ms.total >= 0
