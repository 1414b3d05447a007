"""An outcome whose topic does not take it stops its partition, and nothing else, until it does: on real Kafka."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from worker.kafka.admin.topics import ensure

pytestmark = pytest.mark.slow


async def test_a_dead_letter_topic_that_is_missing_stops_one_partition_until_it_is_there(
    new_bench: Callable[..., Any],
) -> None:
    bench = new_bench()
    dead_letters = bench.kafka.dead_letter_topic
    async with bench.running() as worker:
        await bench.until(lambda: worker.delivery.assigned_partitions == 2)
        await asyncio.to_thread(bench.delete_topic, dead_letters)
        bench.produce(b"poison", b"after it", partition=0)
        await bench.until(lambda: worker.delivery.why_stopped is not None)
        assert f"{bench.kafka.query_topic}-0 has stopped" in worker.delivery.why_stopped
        assert dead_letters in worker.delivery.why_stopped

        bench.produce(b"elsewhere", partition=1)
        await bench.until_committed(0, 1)

        await asyncio.to_thread(ensure, bench.kafka, create=True)
        await bench.until(lambda: worker.delivery.why_stopped is None)
        await bench.until_committed(2, 1)
        # Fetching goes on too.
        bench.produce(b"later", partition=0)
        await bench.until_committed(3, 1)
    assert worker.run.result() is True
    assert await bench.read_all(dead_letters) == [b"poison"]


async def test_a_dead_letter_larger_than_its_topic_takes_waits_until_the_limit_is_raised(
    new_bench: Callable[..., Any],
) -> None:
    bench = new_bench(client_options={"compression.type": "none"})
    bench.configure_topic(bench.kafka.query_topic, max_message_bytes="5000000")
    bench.configure_topic(bench.kafka.dead_letter_topic, max_message_bytes="10000")
    # More than librdkafka's own limit of 1 MB: what a topic takes is the topic's to say.
    large = b"poison" + b"x" * 2_000_000
    async with bench.running() as worker:
        bench.produce(large, partition=0)
        await bench.until(lambda: worker.delivery.why_stopped is not None)
        assert "MSG_SIZE_TOO_LARGE" in worker.delivery.why_stopped
        bench.produce(b"elsewhere", partition=1)
        await bench.until_committed(0, 1)

        bench.configure_topic(bench.kafka.dead_letter_topic, max_message_bytes="5000000")
        await bench.until_committed(1, 1)
        assert worker.delivery.why_stopped is None
    assert await bench.read_all(bench.kafka.dead_letter_topic) == [large]


async def test_an_answer_larger_than_its_topic_takes_is_dead_lettered(new_bench: Callable[..., Any]) -> None:
    bench = new_bench(client_options={"compression.type": "none"})
    bench.configure_topic(bench.kafka.answer_topic, max_message_bytes="10000")
    async with bench.running():
        bench.produce(b"x" * 100_000, b"small")
        await bench.until_committed(2, 0)
    assert await bench.read_all(bench.kafka.dead_letter_topic) == [b"x" * 100_000]
    assert await bench.read_all(bench.kafka.answer_topic) == [b"small"]
