"""Ten thousand events nobody should send: each ends as a dead letter with its reason or as an answer."""

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas import wire
from schemas.events import QueryEvent
from schemas.limits import MAX_EVENT_BYTES, MAX_FILTER_OPERANDS
from tests.patience import HANG_S
from tests.topics import committed, held
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

EVENTS = 10_000
SEED = 20_261_123
# Values of every kind JSON knows, at and beyond the contract's limits.
VALUES: list[Any] = [
    *[None, True, False, 0, -1, 1, 1e308, 10**30, 0.5, "", " ", "x", "\x00", "é" * 8_193, "a" * 129],
    *[[], [[]], [1, "a"], {}, {"a": 1}, {"$and": []}, {"topic": {"$gt": "x"}}, {"$where": "1"}],
    *[{"$or": [{"a": number} for number in range(MAX_FILTER_OPERANDS + 1)]}, {"a": {"$in": [2**64]}}],
    *["2026-11-23", "NaN", "\u202e", "🦆" * 10],
]
RAW = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"NaN",
    b'"text"',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 5_000,
    b"{}{}",
    b"\x00" * 64,
    b"x" * (MAX_EVENT_BYTES + 1),
]


def valid(rng: random.Random, number: int) -> dict[str, Any]:
    event: dict[str, Any] = {"id": f"q{number}", "text": "What does Debezium need?", "generate": False, "top_k": 1}
    if rng.random() < 0.3:
        event["deadline_ms"] = rng.choice([1, 60_000])
    return event


def mutated(rng: random.Random, number: int) -> bytes | None:
    """One event gone wrong, in one of the ways events do."""
    event = valid(rng, number)
    match rng.randrange(9):
        case 0:
            return None
        case 1:
            return rng.choice(RAW)
        case 2:
            return rng.randbytes(rng.randrange(200))
        case 3:
            text = bytearray(json.dumps(event).encode())
            for _ in range(rng.randrange(1, 4)):
                text[rng.randrange(len(text))] = rng.randrange(256)
            return bytes(text)
        case 4:
            text = json.dumps(event).encode()
            return text[: rng.randrange(len(text))]
        case 5:
            del event[rng.choice(["id", "text"])]
        case 6:
            event[rng.choice(["unknown", "ID", "", "schema_version"])] = rng.choice(VALUES)
        case _:
            event[rng.choice(sorted(QueryEvent.model_fields))] = rng.choice(VALUES)
    return json.dumps(event).encode()


def expected(value: bytes | None) -> str | None:
    """The reason for which an event can't be decoded; None if it can."""
    try:
        wire.decode_query(value)
    except wire.WireError as error:
        return error.reason
    return None


def test_every_malformed_event_has_an_outcome_and_none_stops_the_worker(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> None:
    rng = random.Random(SEED)
    events = {f"k{number}".encode(): mutated(rng, number) for number in range(EVENTS)}
    reasons = {key: expected(value) for key, value in events.items()}
    undecodable = {"tombstone", "event_too_large", "invalid_utf8", "invalid_json", "invalid_schema", "invalid_filter"}
    assert undecodable | {None} == set(reasons.values())

    kafka = kafka_settings()
    producer = Producer(common_config(kafka))
    for key, value in events.items():
        producer.produce(kafka.query_topic, key=key, value=value)
        producer.poll(0)
    assert producer.flush(HANG_S) == 0
    worker = start_worker(kafka, collection, KAFKA__POISON_LIMIT="1", RECALL__PATIENCE_S="0").await_ready()

    await_condition(lambda: worker.ended or committed(kafka) == EVENTS, timeout_s=HANG_S)
    assert not worker.ended, worker.log_path.read_text()[-2_000:]
    assert worker.stop() == 0

    answers, letters = held(kafka, kafka.answer_topic), held(kafka, kafka.dead_letter_topic)
    assert Counter(message.key() for message in (*letters, *answers)) == Counter(events.keys())
    for message in answers:
        assert reasons[message.key()] is None
        wire.decode_answer(message.value())
    for message in letters:
        reason = wire.dead_letter_info(message.headers() or []).error_class
        assert reason == reasons[message.key()] or (
            reasons[message.key()] is None and reason in {"invalid_filter", "unknown_collection"}
        ), (events[message.key()], reason)
        assert message.value() == events[message.key()]
