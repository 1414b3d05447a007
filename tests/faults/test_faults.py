"""Each fault by itself, under traffic: nothing is lost, committed early, out of order or repeated beyond the bound."""

from random import Random

import pytest

from tests.faults.faults import happen
from tests.faults.query_faults import FAULTS
from tests.faults.world import World
from tests.patience import HANG_S

pytestmark = pytest.mark.slow

EVENTS = 200


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_promised_holds_through(world: World, fault: str) -> None:
    world.traffic.ask(EVENTS)
    happen(world, fault, FAULTS, Random(fault))
    verdict = world.settle(HANG_S)
    assert verdict.asked == world.traffic.produced
    wrong = world.wrong(verdict)
    assert not wrong, f"{wrong}\n{world.supervisor.describe()}"


def test_workers_that_went_through_all_that_still_end_in_order(world: World) -> None:
    assert world.supervisor.stop() == [0, 0]
