"""A log truncated, or a topic made again, on three brokers: what is in it in the end is answered, all of it.

A replica that was away becomes leader, and what its predecessor alone had is gone: offsets that were read, answered and
committed are given to other records. The workers' client learns so from the leader epoch that is committed with them.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic, PartitionMetadata

from tests.faults.cluster import Broker, Cluster
from tests.patience import HANG_S
from worker.local.jars import missing_tools
from worker.local.process import await_condition
from worker.settings import Settings

pytestmark = pytest.mark.slow

UNCLEAN = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}
READ_AND_LOST = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if (lacking := missing_tools()) and not os.environ.get("RERANK_WORKER_TESTS_REQUIRE_BROKER"):
        pytest.skip(f"three brokers of Apache Kafka run from its jars: install {lacking}")
    with Cluster(Settings().cache_dir.expanduser(), tmp_path_factory.mktemp("three-brokers")) as running:
        yield running


class Log:
    """The one partition of a topic that stands on brokers 2 and 3 alone, seen past the workers' network."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.topic = topic
        self._cluster = cluster
        self._admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        self._create(2, 3)

    def make_again(self, *brokers: int) -> None:
        """Delete the topic, and create it on these brokers."""
        self._admin.delete_topics([self.topic], operation_timeout=HANG_S)[self.topic].result(HANG_S)
        self._create(*brokers)

    def _create(self, *brokers: int) -> None:
        new = NewTopic(self.topic, 1, replica_assignment=[list(brokers)], config=UNCLEAN)
        self._admin.create_topics([new], operation_timeout=HANG_S)[self.topic].result(HANG_S)
        self.await_in_sync(*brokers)

    def write(self, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self._cluster.bootstrap_servers, "acks": "all", "log_level": 0})
        for value in values:
            producer.produce(self.topic, value=value, partition=0)
        assert producer.flush(HANG_S) == 0

    def await_in_sync(self, *brokers: int) -> None:
        assert await_condition(lambda: self._in_sync == set(brokers), timeout_s=HANG_S)

    def lead_by(self, broker: Broker) -> None:
        """Return when this broker leads."""
        assert await_condition(lambda: self._leader == broker.number, timeout_s=HANG_S)

    @property
    def replicas(self) -> tuple[Broker, Broker]:
        """The leader and the follower."""
        _, two, three = self._cluster.brokers
        return (two, three) if self._leader == two.number else (three, two)

    @property
    def _in_sync(self) -> set[int]:
        return {broker for partition in self._partitions for broker in partition.isrs}

    @property
    def _leader(self) -> int | None:
        return next((partition.leader for partition in self._partitions), None)

    @property
    def _partitions(self) -> list[PartitionMetadata]:
        # None where a broker has not heard of the topic yet.
        return list(self._admin.list_topics(self.topic, timeout=HANG_S).topics[self.topic].partitions.values())


@contextmanager
def cut_off(cluster: Cluster, *, really: bool) -> Iterator[None]:
    """The workers see nothing of what happens meanwhile, if so."""
    for broker in cluster.brokers if really else []:
        broker.proxy.cut()
    try:
        yield
    finally:
        for broker in cluster.brokers:
            broker.proxy.heal()


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_what_is_in_a_truncated_log_is_answered(
    new_bench: Callable[..., Any], cluster: Cluster, guarantee: str
) -> None:
    log = await asyncio.to_thread(Log, cluster, f"truncated-{guarantee.replace('_', '-')}")
    bench = new_bench(
        bootstrap_servers=cluster.proxied_bootstrap_servers,
        query_topic=log.topic,
        partitions=1,
        replication_factor=3,
        delivery_guarantee=guarantee,
        # It stays in the group while it is cut off.
        session_timeout_s=60.0,
    )
    answers = bench.read(bench.kafka.answer_topic)

    async def answered(values: list[bytes]) -> None:
        await bench.until(lambda: set(values) <= set(answers.values) or worker.run.done())
        assert not worker.run.done()

    async with bench.running() as worker:
        # The client looks while the log is shorter than what it has read; and when it has outgrown that.
        for way, count in (("short", 10), ("outgrown", 2 * READ_AND_LOST)):
            kept, lost, new = (
                [f"{way}-{kind}-{number}".encode() for number in range(how_many)]
                for kind, how_many in (("kept", 20), ("lost", READ_AND_LOST), ("new", count))
            )
            await asyncio.to_thread(log.write, *kept)
            leader, follower = log.replicas
            await asyncio.to_thread(cluster.stop, follower)
            await asyncio.to_thread(log.await_in_sync, leader.number)
            await asyncio.to_thread(log.write, *lost)
            await answered([*kept, *lost])
            with cut_off(cluster, really=way == "outgrown"):
                await asyncio.to_thread(cluster.kill, leader)
                await asyncio.to_thread(cluster.start, follower)
                await asyncio.to_thread(log.lead_by, follower)
                await asyncio.to_thread(log.write, *new)
            await answered(new)
            await asyncio.to_thread(cluster.start, leader)
            await asyncio.to_thread(log.await_in_sync, leader.number, follower.number)
        in_the_end = await bench.read_all(log.topic)
        assert not any(b"lost" in value for value in in_the_end)
        await bench.until_committed(len(in_the_end))
    assert worker.run.result() is True
    assert set(in_the_end) <= set(answers.values)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_a_topic_made_again_on_other_brokers_is_read_where_it_is(
    new_bench: Callable[..., Any], cluster: Cluster, guarantee: str
) -> None:
    """The client believes no leader of a lower epoch than it has seen, and a new topic's epochs begin at 0."""
    log = await asyncio.to_thread(Log, cluster, f"made-again-{guarantee.replace('_', '-')}")
    bench = new_bench(
        bootstrap_servers=cluster.proxied_bootstrap_servers,
        query_topic=log.topic,
        partitions=1,
        replication_factor=3,
        delivery_guarantee=guarantee,
    )
    answers = bench.read(bench.kafka.answer_topic)
    async with bench.running() as worker:
        leader, follower = log.replicas
        await asyncio.to_thread(log.write, b"before")
        await bench.until(lambda: b"before" in answers.values)
        await asyncio.to_thread(cluster.stop, leader)
        await asyncio.to_thread(log.lead_by, follower)
        await asyncio.to_thread(log.write, b"led by another")
        await bench.until(lambda: b"led by another" in answers.values)
        await asyncio.to_thread(cluster.start, leader)
        await asyncio.to_thread(log.make_again, 1)
        await asyncio.to_thread(log.write, b"after")
        await bench.until(lambda: b"after" in answers.values or worker.run.done())
        await bench.until_committed(1)
    assert worker.run.result() is True
