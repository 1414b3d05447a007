"""A partition that the client was given and does not fetch: what librdkafka makes of a coordinator that moves."""

import asyncio

import pytest
from confluent_kafka import KafkaError, Producer
from prometheus_client import CollectorRegistry

from tests.integration.kafka.conftest import EchoJob
from worker.kafka.delivery import Delivery
from worker.local.mock_kafka import MockCluster
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics

OFFSET_FETCH = 9
PATIENCE_S = 60.0


@pytest.mark.parametrize("error", [KafkaError.NOT_COORDINATOR, KafkaError.STALE_MEMBER_EPOCH])
async def test_a_failed_lookup_of_committed_offsets_leaves_no_partition_behind(error: int) -> None:
    kafka = KafkaSettings(
        query_topic="queries",
        answer_topic="answers",
        dead_letter_topic="dead-letters",
        group_protocol="classic",
        client_options={"statistics.interval.ms": 200},
    )
    cluster = MockCluster([kafka.query_topic, kafka.answer_topic, kafka.dead_letter_topic], partitions=2)
    kafka = kafka.model_copy(update={"bootstrap_servers": cluster.bootstrap_servers})
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
    for partition in (0, 1):
        producer.produce(kafka.query_topic, b"a query", partition=partition)
    assert producer.flush(30) == 0
    cluster.fail_next(OFFSET_FETCH, error)

    delivery = Delivery(kafka, lambda record: EchoJob(kafka, record, {}), Metrics(CollectorRegistry()), "worker")
    stop = asyncio.Event()
    run = asyncio.create_task(delivery.run(stop))
    async with asyncio.timeout(PATIENCE_S):
        while [each.committed_offset for each in delivery.progress] != [1, 1]:
            await asyncio.sleep(0.05)
    stop.set()
    assert await run
