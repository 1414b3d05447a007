"""librdkafka's own broker in this process, and dead letters on it."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pytest
from confluent_kafka import Producer

from schemas import wire
from schemas.events import DeadLetterInfo
from tests.patience import HANG_S
from worker.kafka.admin.topics import worker_topics
from worker.kafka.config import common_config
from worker.local.mock_kafka import MockCluster
from worker.settings import KafkaSettings

# What the mock gives a topic that it makes when it is asked for it.
PARTITIONS = 4
ELSEWHERE = "elsewhere"

numbers = count()


@pytest.fixture(scope="session")
def cluster() -> MockCluster:
    return MockCluster([], partitions=PARTITIONS)


@pytest.fixture
def kafka(cluster: MockCluster) -> KafkaSettings:
    """A group and topics of a test's own.

    They are made by asking for them: told to make one, the mock now and then takes a second.
    """
    name = f"test-{next(numbers)}"
    settings = KafkaSettings(
        bootstrap_servers=cluster.bootstrap_servers,
        query_topic=f"{name}.queries",
        answer_topic=f"{name}.answers",
        dead_letter_topic=f"{name}.queries.dlq",
        group_id=name,
        startup_timeout_s=HANG_S,
    )
    producer = Producer(common_config(settings))
    for topic in (*worker_topics(settings), ELSEWHERE):
        producer.list_topics(topic, timeout=HANG_S)
    return settings


@pytest.fixture
def put(kafka: KafkaSettings) -> Callable[..., None]:
    """Puts one dead letter on the topic."""

    def put(
        name: str,
        *,
        partition: int = 0,
        at_s: float = 1_000,
        topic: str = kafka.query_topic,
        omitted: bool = False,
        **info: object,
    ) -> None:
        fields = {"error_kind": "poison", "error_class": "tombstone", "error_message": "why", "source_topic": topic}
        described = DeadLetterInfo.model_validate(fields | {"source_partition": 0, "source_offset": 0} | info)
        producer = Producer(common_config(kafka))
        producer.produce(
            kafka.dead_letter_topic,
            key=name.encode(),
            value=None if omitted else f'{{"id": "{name}"}}'.encode(),
            headers=[
                *wire.dead_letter_headers(described, [("correlation-id", b"c")]),
                *([(wire.VALUE_OMITTED, b"true")] if omitted else []),
            ],
            partition=partition,
            timestamp=int(datetime.fromtimestamp(at_s, UTC).timestamp() * 1000),
        )
        assert producer.flush(HANG_S) == 0

    return put
