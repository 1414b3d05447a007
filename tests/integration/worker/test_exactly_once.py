"""Exactly once, the whole worker: killed in the middle, again and again."""

import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import wire
from schemas.events import QueryEvent
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EVENTS = 1_000
KILLS = 3


def produce(kafka: KafkaSettings) -> None:
    producer = Producer(common_config(kafka))
    for number in range(EVENTS):
        # Every tenth is poison: dead letters are in the transactions too.
        event = QueryEvent(id=f"q{number}", text="capital of france", top_k=3, generate=False)
        value = b"{" if number % 10 == 0 else wire.encode_query(event)
        producer.produce(kafka.query_topic, key=b"%d" % number, value=value)
        producer.poll(0)
    assert producer.flush(60) == 0


def visible_keys(kafka: KafkaSettings, topic: str) -> "Counter[bytes]":
    """The keys a read_committed reader sees, once nothing has come for a while."""
    consumer = Consumer(
        common_config(kafka) | {"group.id": f"reader-{time.time_ns()}", "isolation.level": "read_committed"}
    )
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    keys: Counter[bytes] = Counter()
    while messages := consumer.consume(500, timeout=3):
        for message in messages:
            key = message.key()
            assert message.error() is None
            assert isinstance(key, bytes)
            keys[key] += 1
    consumer.close()
    return keys


@pytest.mark.parametrize("same_name", [True, False])
def test_kill_minus_nine_in_the_middle_loses_nothing_and_duplicates_nothing(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable, same_name: bool
) -> None:
    kafka = kafka_settings()
    produce(kafka)
    ended = "rerank_worker_events_total"
    for life in range(KILLS + 1):
        worker = start_worker(
            kafka,
            collection,
            WORKER_ID="one" if same_name else f"life-{life}",
            KAFKA__DELIVERY_GUARANTEE="exactly_once",
            KAFKA__TRANSACTION_TIMEOUT_S="5",
        ).await_ready()
        if life < KILLS:
            assert await_condition(lambda worker=worker: worker.metric(ended) > 40, timeout_s=120)
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait(30)

    def seen() -> int:
        return sum((visible_keys(kafka, kafka.answer_topic) + visible_keys(kafka, kafka.dead_letter_topic)).values())

    assert await_condition(lambda: seen() >= EVENTS, timeout_s=120)
    assert worker.stop() == 0
    answers, dead_letters = visible_keys(kafka, kafka.answer_topic), visible_keys(kafka, kafka.dead_letter_topic)
    assert answers == Counter(b"%d" % n for n in range(EVENTS) if n % 10)
    assert dead_letters == Counter(b"%d" % n for n in range(EVENTS) if n % 10 == 0)
