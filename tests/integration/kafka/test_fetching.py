"""Partitions that the client has and does not fetch, as librdkafka leaves them; here on its own mock cluster."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from prometheus_client import CollectorRegistry

from tests.integration.kafka.conftest import EchoJob
from tests.patience import HANG_S
from worker.kafka.consume import source
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.publish.guarantees import new_guarantee
from worker.local.mock_kafka import MockCluster
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics

pytestmark = pytest.mark.slow

OFFSET_FETCH = 9
PARTITIONS = 2


@pytest.fixture
def cluster() -> MockCluster:
    return MockCluster(["queries", "answers", "dead-letters"], partitions=PARTITIONS)


def settings(cluster: MockCluster, **changes: object) -> KafkaSettings:
    return KafkaSettings.model_validate(
        {
            "bootstrap_servers": cluster.bootstrap_servers,
            "query_topic": "queries",
            "answer_topic": "answers",
            "dead_letter_topic": "dead-letters",
            "client_options": {"statistics.interval.ms": 200},
            "commit_interval_s": 0.1,
            **changes,
        }
    )


def produce(kafka: KafkaSettings, queries: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number in range(queries):
        for partition in range(PARTITIONS):
            producer.produce(kafka.query_topic, b"%d" % number, partition=partition)
    assert producer.flush(HANG_S) == 0


def answers(kafka: KafkaSettings) -> int:
    """How many answers there are."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "observer"})
    partitions = [TopicPartition(kafka.answer_topic, number) for number in range(PARTITIONS)]
    count = sum(consumer.get_watermark_offsets(partition, timeout=HANG_S)[1] for partition in partitions)
    consumer.close()
    return count


def new_delivery(kafka: KafkaSettings, gates: dict[bytes, asyncio.Event] | None = None) -> Delivery:
    return Delivery(
        kafka,
        lambda record: EchoJob(kafka, record, gates or {}),
        partial(new_guarantee, kafka, "worker"),
        Metrics(CollectorRegistry()),
    )


async def until_committed(delivery: Delivery, offset: int) -> None:
    async with asyncio.timeout(HANG_S):
        while [each.committed_offset for each in delivery.progress] != [offset] * PARTITIONS:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("error", [KafkaError.NOT_COORDINATOR, KafkaError.STALE_MEMBER_EPOCH])
async def test_a_failed_lookup_of_committed_offsets_leaves_no_partition_behind(
    cluster: MockCluster, error: int
) -> None:
    kafka = settings(cluster)
    produce(kafka, 3)
    cluster.fail_next(OFFSET_FETCH, error)

    delivery = new_delivery(kafka)
    stop = asyncio.Event()
    run = asyncio.create_task(delivery.run(stop))
    await until_committed(delivery, 3)
    stop.set()
    assert await run
    assert answers(kafka) == 3 * PARTITIONS


async def test_a_resume_that_the_client_loses_stops_no_partition(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Sequence[TopicPartition]] = []

    class LosesItsFirstResume(Consumer):
        def resume(self, partitions: list[TopicPartition]) -> None:
            if lost:
                super().resume(partitions)
            else:
                lost.append(partitions)

    monkeypatch.setattr(source, "Consumer", LosesItsFirstResume)
    kafka = settings(cluster, max_in_flight=4, poll_batch=2)
    produce(kafka, 2)
    gates = {b"%d" % number: asyncio.Event() for number in range(2)}
    delivery = new_delivery(kafka, gates)
    stop = asyncio.Event()
    run = asyncio.create_task(delivery.run(stop))
    async with asyncio.timeout(HANG_S):
        while not all(each.paused for each in delivery.progress) or len(delivery.progress) < PARTITIONS:
            await asyncio.sleep(0.05)
    for gate in gates.values():
        gate.set()
    await asyncio.to_thread(produce, kafka, 50)
    await until_committed(delivery, 52)
    assert lost
    stop.set()
    assert await run
    # From where it had stood: nothing is read twice.
    assert answers(kafka) == 52 * PARTITIONS
