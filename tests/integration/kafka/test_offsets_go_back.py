"""A topic deleted and made again: every query is answered, nothing is committed past one that is not."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
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


def the_commits(kafka: KafkaSettings) -> list[TopicPartition]:
    observer = Consumer(common_config(kafka) | {"group.id": kafka.group_id})
    try:
        wanted = [TopicPartition(kafka.query_topic, number) for number in range(kafka.partitions)]
        return observer.committed(wanted, timeout=HANG_S)
    finally:
        observer.close()


def in_flight_behind(worker: Any, committed: int) -> int:
    """How many queries are in flight in partitions of this committed offset.

    What a worker tells of itself may be a second old: with the commit of all that came before it is no older than that.
    """
    return sum(each.in_flight for each in worker.delivery.progress if each.committed_offset == committed)


def commit_again(kafka: KafkaSettings, commits: list[TopicPartition]) -> None:
    committer = Consumer(common_config(kafka) | {"group.id": kafka.group_id})
    try:
        committer.commit(offsets=commits, asynchronous=False)
    finally:
        committer.close()


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
        await bench.until_committed(100, 100)
        # In flight while its record, and its topic, go away.
        await asyncio.to_thread(ask, kafka, b"slow")
        await bench.until(lambda: in_flight_behind(worker, 100) == 1)
        # Not as many as were read before: librdkafka keeps its offset, and learns from one that is out of range alone.
        await asyncio.to_thread(make_again, bench.admin, kafka)
        for _ in range(5):
            await load(10)
        worker.gates[b"slow"].set()
        await bench.until(lambda: {*asked, b"slow"} <= set(answers.values) or worker.run.done())
        await bench.until_committed(25, 25)
    assert worker.run.result() is True
    assert {*asked, b"slow"} == set(answers.values)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_a_topic_made_again_that_has_outgrown_what_was_read_is_read_from_its_beginning(
    new_bench: Callable[..., Any], guarantee: str
) -> None:
    """Its offsets never go back for the client: it goes on in the middle of the new topic."""
    bench = new_bench(delivery_guarantee=guarantee, partitions=1, max_in_flight=4, poll_batch=1)
    kafka = bench.kafka
    answers = bench.read(kafka.answer_topic)
    before = [b"before%d" % number for number in range(20)]
    held_up = [b"slow%d" % number for number in range(4)]
    async with bench.running(*held_up) as worker:
        bench.produce(*before)
        await bench.until(lambda: set(before) <= set(answers.values))
        await bench.until_committed(len(before))
        # Paused, the client fetches nothing while the topic is another one and grows.
        bench.produce(*held_up)
        await bench.until(lambda: in_flight_behind(worker, len(before)) == len(held_up))
        await asyncio.to_thread(make_again, bench.admin, kafka)
        after = [b"after%d" % number for number in range(40)]
        await asyncio.to_thread(ask, kafka, *after)
        for gate in worker.gates.values():
            gate.set()
        await bench.until(lambda: {*held_up, *after} <= set(answers.values) or worker.run.done())
        await bench.until_committed(40)
        begun = worker.metrics.get_sample_value("rerank_worker_epochs_total", {"reason": "topic_made_again"})
        assert begun == 1
    assert worker.run.result() is True


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_a_commit_of_the_former_topic_is_not_taken_for_one_of_the_new(
    new_bench: Callable[..., Any], guarantee: str
) -> None:
    """Kafka forgets commits with their topic; a worker that has not noticed yet makes one more before it dies."""
    bench = new_bench(delivery_guarantee=guarantee, partitions=1)
    kafka = bench.kafka
    async with bench.running():
        bench.produce(*[b"before%d" % number for number in range(20)])
        await bench.until_committed(20)
    commits = await asyncio.to_thread(the_commits, kafka)
    await asyncio.to_thread(make_again, bench.admin, kafka)
    await asyncio.to_thread(commit_again, kafka, commits)
    after = [b"after%d" % number for number in range(100)]
    await asyncio.to_thread(ask, kafka, *after)
    async with bench.running():
        await bench.until_committed(100)
    # Another finds a commit of the new topic, and goes on from there.
    async with bench.running():
        bench.produce(b"last")
        await bench.until_committed(101)
    answered = await bench.read_all(kafka.answer_topic)
    assert Counter(answered[20:]) == Counter([*after, b"last"])


@pytest.mark.parametrize("reset", ["earliest", "latest"])
async def test_a_group_without_commits_begins_where_it_is_set_to_begin(
    new_bench: Callable[..., Any], reset: str
) -> None:
    bench = new_bench(partitions=1, auto_offset_reset=reset)
    bench.produce(b"before any worker")
    async with bench.running() as worker:
        await bench.until(lambda: worker.delivery.assigned_partitions == 1)
        answers = bench.read(bench.kafka.answer_topic)
        async with asyncio.timeout(HANG_S):
            # Where the end is, the client asks a moment later.
            while b"later" not in answers.values:
                bench.produce(b"later")
                await asyncio.sleep(0.05)
    answered = await bench.read_all(bench.kafka.answer_topic)
    assert (b"before any worker" in answered) == (reset == "earliest")
