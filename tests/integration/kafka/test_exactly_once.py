"""Exactly once on real Kafka: what a read_committed reader sees, whatever happens to the worker."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from worker.errors import FatalError
from worker.kafka.admin.topics import ensure
from worker.kafka.consume import source

pytestmark = pytest.mark.slow

NewBench = Callable[..., Any]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_answers_and_offsets_become_visible_together(new_bench: NewBench, protocol: str) -> None:
    bench = new_bench(delivery_guarantee="exactly_once", group_protocol=protocol)
    values = [b"%d" % n for n in range(200)]
    async with bench.running(b"100") as worker:
        bench.produce(*values)
        bench.produce(b"elsewhere", partition=1)
        # The prefix before a query that is slow is visible; what is behind it waits for it.
        await bench.until_committed(100, 1)
        assert sorted(await bench.read_all(bench.kafka.answer_topic)) == sorted([*values[:100], b"elsewhere"])
        worker.gates[b"100"].set()
        await bench.until_committed(200, 1)
    assert worker.run.result() is True
    assert sorted(await bench.read_all(bench.kafka.answer_topic)) == sorted([*values, b"elsewhere"])


async def test_what_the_client_fetches_again_is_answered_once(
    new_bench: NewBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow network librdkafka was seen to fetch a partition from its beginning once more, 64 records later."""

    class GoesBack(Consumer):
        taken = 0

        def poll(self, timeout: float = -1) -> Message | None:
            message = super().poll(timeout)
            if message is not None and message.error() is None:
                self.taken += 1
                if self.taken == 20:
                    self.seek(TopicPartition(message.topic(), message.partition(), 0))
            return message

    monkeypatch.setattr(source, "Consumer", GoesBack)
    bench = new_bench(delivery_guarantee="exactly_once", partitions=1, poll_batch=1)
    values = [b"%d" % n for n in range(50)]
    async with bench.running(b"5") as worker:
        bench.produce(*values)
        await bench.until(lambda: len(worker.delivery.progress) == 1 and worker.delivery.progress[0].in_flight == 45)
        worker.gates[b"5"].set()
        await bench.until_committed(50)
    assert sorted(await bench.read_all(bench.kafka.answer_topic)) == sorted(values)


async def test_a_dead_letter_topic_that_is_missing_stops_one_partition_until_it_is_there(new_bench: NewBench) -> None:
    bench = new_bench(delivery_guarantee="exactly_once")
    dead_letters = bench.kafka.dead_letter_topic
    async with bench.running() as worker:
        await bench.until(lambda: worker.delivery.assigned_partitions == 2)
        await asyncio.to_thread(bench.delete_topic, dead_letters)
        bench.produce(b"before it", b"poison", b"after it", partition=0)
        bench.produce(b"elsewhere", partition=1)
        await bench.until(lambda: worker.delivery.why_stopped is not None)
        await bench.until_committed(1, 1)
        bench.produce(b"elsewhere too", partition=1)
        await bench.until_committed(1, 2)

        await asyncio.to_thread(ensure, bench.kafka, create=True)
        await bench.until_committed(3, 2)
        assert worker.delivery.why_stopped is None
    assert await bench.read_all(dead_letters) == [b"poison"]
    assert len(await bench.read_all(bench.kafka.answer_topic)) == 4


async def test_an_answer_larger_than_its_topic_takes_is_dead_lettered_alone(new_bench: NewBench) -> None:
    bench = new_bench(delivery_guarantee="exactly_once", client_options={"compression.type": "none"})
    bench.configure_topic(bench.kafka.answer_topic, max_message_bytes="10000")
    async with bench.running():
        bench.produce(b"before", b"x" * 100_000, b"after")
        await bench.until_committed(3, 0)
    assert await bench.read_all(bench.kafka.dead_letter_topic) == [b"x" * 100_000]
    assert sorted(await bench.read_all(bench.kafka.answer_topic)) == [b"after", b"before"]


async def test_a_second_process_of_the_same_name_ends_the_first_with_one_clear_line(new_bench: NewBench) -> None:
    bench = new_bench(delivery_guarantee="exactly_once")
    async with bench.running(worker_id="same") as first:
        bench.produce(b"1")
        await bench.until_committed(1, 0)
        async with bench.running(worker_id="same") as second:
            # Each has a partition then: the first one comes to work, and to a transaction, again.
            await bench.until(lambda: first.delivery.assigned_partitions == second.delivery.assigned_partitions == 1)
            bench.produce(*[b"%d" % n for n in range(2, 50)], partition=0)
            bench.produce(*[b"%d" % n for n in range(50, 100)], partition=1)
            await bench.until(first.run.done)
            with pytest.raises(FatalError, match=r"fenced: another process uses transactional.id .*-same"):
                first.run.result()
            await bench.until_committed(49, 50)
    assert sorted(await bench.read_all(bench.kafka.answer_topic)) == sorted(b"%d" % n for n in range(1, 100))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_members_that_come_and_go_duplicate_and_lose_nothing(new_bench: NewBench, protocol: str) -> None:
    bench = new_bench(delivery_guarantee="exactly_once", group_protocol=protocol, partitions=4)
    total = 2_000
    reader = bench.read(bench.kafka.answer_topic)
    async with bench.running(worker_id="stays"):
        for round_number in range(4):
            async with bench.running(worker_id=f"guest-{round_number}") as guest:
                for partition in range(4):
                    first = (round_number * 4 + partition) * 125
                    bench.produce(*[b"%d" % n for n in range(first, first + 125)], partition=partition)
                await bench.until(lambda guest=guest: guest.delivery.assigned_partitions > 0)
        await bench.until(lambda: len(reader.values) >= total)
        await bench.until_committed(*[total // 4] * 4)
    assert sorted(map(int, await bench.read_all(bench.kafka.answer_topic))) == list(range(total))
