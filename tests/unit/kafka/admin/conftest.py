"""librdkafka's own broker in this process, and dead letters on it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from schemas import wire
from schemas.events import DeadLetterInfo
from tests.patience import HANG_S
from worker.kafka.config import common_config
from worker.local.mock_kafka import MockCluster
from worker.settings import KafkaSettings

PARTITIONS = 3


@pytest.fixture
def kafka() -> KafkaSettings:
    cluster = MockCluster(["rag.queries", "rag.answers", "rag.queries.dlq", "elsewhere"], partitions=PARTITIONS)
    return KafkaSettings(bootstrap_servers=cluster.bootstrap_servers, startup_timeout_s=HANG_S)


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
