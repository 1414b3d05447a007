"""Which broker this machine gets: the first of its kind that can be had, real ones first."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.errors import FatalError
from worker.local.docker_kafka import docker_kafka, engine_missing
from worker.local.jars import missing_tools
from worker.local.kafka import java_kafka
from worker.local.mock_kafka import mock_kafka

BOOTSTRAP_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"

Kind = Literal["external", "docker", "java", "mock"]


@dataclass(frozen=True, slots=True)
class LocalBroker:
    """A broker and what it is."""

    bootstrap_servers: str
    kind: Kind

    @property
    def description(self) -> str:
        """What it is, for people."""
        return {
            "external": f"the one {BOOTSTRAP_VARIABLE} names",
            "docker": "Apache Kafka in a container",
            "java": "Apache Kafka, one KRaft node from its published jars",
            "mock": "librdkafka's mock: in memory, no transactions, for a look only",
        }[self.kind]


def choose_kind(*, allow_mock: bool) -> Kind:
    """Return the first kind of broker that can run here. FatalError says what to install."""
    if os.environ.get(BOOTSTRAP_VARIABLE):
        return "external"
    no_docker = engine_missing()
    if no_docker is None:
        return "docker"
    no_java = missing_tools()
    if no_java is None:
        return "java"
    if allow_mock:
        return "mock"
    raise FatalError(
        f"no Kafka can run on this machine: {no_docker}; to run it without Docker install {no_java}; "
        f"or name a broker in {BOOTSTRAP_VARIABLE}"
    )


@contextmanager
def local_broker(
    cache_dir: Path, data_dir: Path, *, mock_topics: Sequence[str] = (), port: int | None = None
) -> Iterator[LocalBroker]:
    """Run a broker and yield it. With ``mock_topics`` the mock is allowed, and has these. Blocks until it answers."""
    kind = choose_kind(allow_mock=bool(mock_topics))
    match kind:
        case "external":
            yield LocalBroker(os.environ[BOOTSTRAP_VARIABLE], kind)
        case "docker":
            with docker_kafka(data_dir, port=port) as address:
                yield LocalBroker(address, kind)
        case "java":
            with java_kafka(cache_dir, data_dir, port=port) as address:
                yield LocalBroker(address, kind)
        case "mock":
            with mock_kafka(data_dir, mock_topics, partitions=4) as address:
                yield LocalBroker(address, kind)
