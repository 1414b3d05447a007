"""Exactly once, the whole worker: killed in the middle, again and again."""

import signal
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest
from confluent_kafka import Producer

from schemas import wire
from schemas.events import QueryEvent
from tests.patience import HANG_S
from tests.topics import held
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

EVENTS = 1_000
# Each life but the last is killed: one of its own name takes over, then one of another, which must wait for the
# transaction that was left open.
LIVES = ("one", "one", "two", "two")


def produce(kafka: KafkaSettings) -> None:
    producer = Producer(common_config(kafka))
    for number in range(EVENTS):
        # Every tenth is poison: dead letters are in the transactions too.
        event = QueryEvent(id=f"q{number}", text="capital of france", top_k=3, generate=False)
        value = b"{" if number % 10 == 0 else wire.encode_query(event)
        producer.produce(kafka.query_topic, key=b"%d" % number, value=value)
        producer.poll(0)
    assert producer.flush(HANG_S) == 0


def visible_keys(kafka: KafkaSettings, topic: str) -> "Counter[bytes]":
    """The keys a read_committed reader sees."""
    return Counter(cast("bytes", message.key()) for message in held(kafka, topic))


def test_kill_minus_nine_in_the_middle_loses_nothing_and_duplicates_nothing(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    produce(kafka)
    ended = "rerank_worker_events_total"
    for life, name in enumerate(LIVES, start=1):
        worker = start_worker(
            kafka,
            collection,
            WORKER_ID=name,
            KAFKA__DELIVERY_GUARANTEE="exactly_once",
            KAFKA__TRANSACTION_TIMEOUT_S="5",
        ).await_ready()
        if life < len(LIVES):
            assert await_condition(lambda worker=worker: worker.metric(ended) > 40, timeout_s=HANG_S)
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait(HANG_S)

    def seen() -> int:
        return sum((visible_keys(kafka, kafka.answer_topic) + visible_keys(kafka, kafka.dead_letter_topic)).values())

    assert await_condition(lambda: seen() >= EVENTS, timeout_s=HANG_S)
    assert worker.stop() == 0
    answers, dead_letters = visible_keys(kafka, kafka.answer_topic), visible_keys(kafka, kafka.dead_letter_topic)
    assert answers == Counter(b"%d" % n for n in range(EVENTS) if n % 10)
    assert dead_letters == Counter(b"%d" % n for n in range(EVENTS) if n % 10 == 0)
