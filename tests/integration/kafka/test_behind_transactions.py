"""Queries sent in transactions: what is done with is committed to the end of its partition, markers and all."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.patience import HANG_S
from tests.topics import held
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow


def transact(kafka: KafkaSettings, *transactions: tuple[bool, list[bytes]]) -> None:
    """Send these queries in a transaction each, committed or not."""
    producer = Producer(common_config(kafka) | {"transactional.id": kafka.query_topic})
    producer.init_transactions(HANG_S)
    for commit, values in transactions:
        producer.begin_transaction()
        for value in values:
            producer.produce(kafka.query_topic, value=value, partition=0)
        producer.flush(HANG_S)
        if commit:
            producer.commit_transaction(HANG_S)
        else:
            producer.abort_transaction(HANG_S)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_behind_transactions_nothing_lags_once_all_is_answered(
    new_bench: Callable[..., Any], guarantee: str
) -> None:
    bench = new_bench(partitions=1, delivery_guarantee=guarantee)
    async with bench.running(b"slow"):
        await asyncio.to_thread(transact, bench.kafka, (True, [b"one"]), (False, [b"never"] * 50), (True, [b"two"]))
        # one, its marker, 50 that are aborted and their marker, two and its marker
        await bench.until_committed(55)
        await asyncio.to_thread(transact, bench.kafka, (False, [b"never"]))
        await bench.until_committed(57)

    async with bench.running(b"slow") as worker:
        # Behind a query in work nothing counts, wherever the partition ends.
        await asyncio.to_thread(transact, bench.kafka, (True, [b"slow"]), (True, [b"three"]), (False, [b"never"]))
        answers = bench.read(bench.kafka.answer_topic)
        if guarantee == "at_least_once":
            await bench.until(lambda: b"three" in answers.values)
        await bench.until(lambda: bool(worker.delivery.progress) and worker.delivery.progress[0].uncommitted == 2)
        assert await bench.committed() == [57]
        worker.gates[b"slow"].set()
        await bench.until_committed(63)
    values = [message.value() for message in await asyncio.to_thread(held, bench.kafka, bench.kafka.answer_topic)]
    assert sorted(values) == [b"one", b"slow", b"three", b"two"]
