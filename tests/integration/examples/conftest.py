"""A worker that lets replies go to a topic of the test's own."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.integration.worker.conftest import collection, start_worker
from tests.patience import HANG_S
from worker.settings import ENV_PREFIX, KafkaSettings, RecallSettings

# Fixtures, as the worker's own tests have them.
__all__ = ["collection", "start_worker"]


@dataclass(frozen=True)
class Service:
    """A running worker as its clients know it."""

    kafka: KafkaSettings
    reply_topic: str

    def environment(self, **changes: str) -> dict[str, str]:
        """What an example is told, besides what this machine has set for its tools."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        return {
            **inherited,
            f"{ENV_PREFIX}KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            f"{ENV_PREFIX}KAFKA__QUERY_TOPIC": self.kafka.query_topic,
            "REPLY_TOPIC": self.reply_topic,
            "DEADLINE_S": str(int(HANG_S)),
            **changes,
        }


@pytest.fixture
def service(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> Service:
    kafka = kafka_settings()
    # Made by whoever asks first.
    reply_topic = f"{kafka.answer_topic}.replies"
    start_worker(kafka, collection, KAFKA__REPLY_TOPICS=f"{kafka.answer_topic}.*").await_ready()
    return Service(kafka, reply_topic)
