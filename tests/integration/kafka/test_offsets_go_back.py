"""A topic deleted and made again under load: every query is answered, nothing is committed past one that is not."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.patience import HANG_S
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow


def make_again(admin: AdminClient, kafka: KafkaSettings) -> None:
    """Delete the query topic, and create it as soon as the broker lets us."""
    topic = kafka.query_topic
    admin.delete_topics([topic], operation_timeout=HANG_S)[topic].result(HANG_S)
    while True:
        try:
            admin.create_topics([NewTopic(topic, kafka.partitions, 1)], operation_timeout=HANG_S)[topic].result(HANG_S)
        except KafkaException:
            continue
        return


def ask(kafka: KafkaSettings, *values: bytes) -> None:
    producer = Producer(common_config(kafka) | {"linger.ms": 0})
    for number, value in enumerate(values):
        producer.produce(kafka.query_topic, value=value, partition=number % kafka.partitions)
    assert producer.flush(HANG_S) == 0


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_a_topic_made_again_under_load_loses_no_query(new_bench: Callable[..., Any], guarantee: str) -> None:
    bench = new_bench(delivery_guarantee=guarantee)
    kafka = bench.kafka
    numbers = itertools.count()
    asked: list[bytes] = []

    async def load(count: int) -> None:
        values = [b"q%d" % next(numbers) for _ in range(count)]
        await asyncio.to_thread(ask, kafka, *values)
        asked.extend(values)

    answers = bench.read(kafka.answer_topic)
    async with bench.running(b"slow") as worker:
        await load(200)
        await bench.until(lambda: set(asked) <= set(answers.values))
        # In flight while its record, and its topic, go away.
        await asyncio.to_thread(ask, kafka, b"slow")
        await bench.until(lambda: any(progress.in_flight for progress in worker.delivery.progress))
        # Not as many as were read before: librdkafka keeps its offset, and learns from one that is out of range alone.
        await asyncio.to_thread(make_again, bench.admin, kafka)
        for _ in range(5):
            await load(10)
        worker.gates[b"slow"].set()
        await bench.until(lambda: {*asked, b"slow"} <= set(answers.values) or worker.run.done())
    assert worker.run.result() is True
    assert {*asked, b"slow"} == set(answers.values)
    assert sum(await bench.committed()) == 50
