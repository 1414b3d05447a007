"""One real broker and one real Chroma server for the whole test session; topics and collections are the tests' own."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import HANG_S
from worker.errors import FatalError
from worker.kafka.admin.topics import ensure
from worker.local.broker import LocalBroker, choose_kind, local_broker
from worker.local.chroma import LocalChroma, local_chroma
from worker.settings import KafkaSettings, Settings

REQUIRE_VARIABLE = "RERANK_WORKER_TESTS_REQUIRE_BROKER"

REQUIRED = bool(os.environ.get(REQUIRE_VARIABLE))


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The user's cache: Kafka's jars and built models are fetched once per machine, not once per run."""
    return Settings().cache_dir.expanduser()


@pytest.fixture(scope="session")
def broker(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A real broker, never the mock. Skips with the reason where none can run; CI forbids that."""
    try:
        choose_kind(allow_mock=False)
    except FatalError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))
    with local_broker(cache_dir, tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalChroma]:
    with local_chroma(tmp_path_factory.mktemp("chroma")) as running:
        yield running


@pytest.fixture
def kafka_settings(broker: LocalBroker) -> Callable[..., KafkaSettings]:
    """Makes settings with topics and a group of their own, created on the broker."""

    def make(**changes: object) -> KafkaSettings:
        name = uuid.uuid4().hex[:8]
        kafka = KafkaSettings.model_validate(
            {
                "bootstrap_servers": broker.bootstrap_servers,
                "query_topic": f"queries-{name}",
                "answer_topic": f"answers-{name}",
                "dead_letter_topic": f"dead-letters-{name}",
                "group_id": f"group-{name}",
                "partitions": 4,
                "commit_interval_s": 0.2,
                "startup_timeout_s": HANG_S,
                # A killed member is replaced after this, not after the default of 45 s.
                "session_timeout_s": 6.0,
                **changes,
            }
        )
        ensure(kafka, create=True)
        return kafka

    return make
