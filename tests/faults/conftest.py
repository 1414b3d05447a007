"""One world per promise for all tests of it, on the same brokers: its faults follow each other, as they do in life."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster
from tests.faults.world import Promise, World, running_world
from worker.local.jars import missing_tools
from worker.settings import Settings

PROMISES = [
    Promise("at_least_once", protocol="consumer", ordering="key"),
    Promise("exactly_once", protocol="classic"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if (lacking := missing_tools()) and not os.environ.get("RERANK_WORKER_TESTS_REQUIRE_BROKER"):
        pytest.skip(f"three brokers of Apache Kafka run from its jars: install {lacking}")
    with Cluster(Settings().cache_dir.expanduser(), tmp_path_factory.mktemp("brokers")) as running:
        yield running


@pytest.fixture(scope="module", params=PROMISES, ids=lambda promise: promise.guarantee)
def world(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with running_world(cluster, tmp_path_factory.mktemp("world"), request.param) as running:
        yield running
