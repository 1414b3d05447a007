"""The collection is the topic's last state by key, whatever happened to the index, to Kafka and to Chroma."""

from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.index.world import LANES, running_index
from tests.faults.schedule import Chaos
from tests.patience import HANG_S

pytestmark = pytest.mark.slow

EVENTS = 900
DOCUMENTS = 300
# About as long as the faults take.
PER_SECOND = 22.0
SLOW = {"worker-hang"}


@pytest.mark.parametrize(("seed", "protocol"), [(1, "consumer"), (2, "classic")])
def test_the_collection_is_the_topics_last_state_by_key(
    cluster: Cluster, tmp_path: Path, seed: int, protocol: str
) -> None:
    lanes = [{name: fault for name, fault in lane.items() if name not in SLOW} for lane in LANES]
    with running_index(cluster, tmp_path, protocol, seed=seed, documents=DOCUMENTS, per_second=PER_SECOND) as world:
        world.traffic.ask(EVENTS)
        Chaos(world, lanes, seed, lambda: world.progress).once_each()
        verdict = world.settle(HANG_S)
        assert verdict.events == EVENTS
        assert not verdict.wrong, f"{verdict.wrong}\n{world.supervisor.describe()}"
        assert sum(verdict.poison.values()) > 0
        assert world.supervisor.stop() == [0, 0]
