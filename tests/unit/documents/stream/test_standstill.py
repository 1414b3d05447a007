"""A process that stood still is wary for a while, from its first instruction on; one that runs is not."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from tests.patience import HANG_S
from worker.documents.stream.standstill import WARY_S, Standstill, StoodStillError

SESSION_S = 12.0


class Clock:
    """Goes on as told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def standstill(clock: Clock) -> Standstill:
    return Standstill(session_timeout_s=SESSION_S, clock=clock)


@pytest.fixture
def run(standstill: Standstill, clock: Clock) -> Callable[[float], None]:
    """Lets the process run for so long, as it does when nothing stops it."""

    def go_on(seconds: float) -> None:
        for _ in range(int(seconds)):
            clock.now_s += 1
            standstill.beat()

    return go_on


def test_who_runs_may_write(standstill: Standstill, run: Callable[[float], None]) -> None:
    run(60)
    standstill.check()


def test_a_hiccup_that_no_session_minds_is_none(standstill: Standstill, clock: Clock) -> None:
    clock.now_s += SESSION_S / 2
    standstill.check()
    standstill.beat()
    standstill.check()


def test_who_wakes_is_wary_before_anybody_has_noted_it_and_after(
    standstill: Standstill, clock: Clock, run: Callable[[float], None]
) -> None:
    clock.now_s += SESSION_S
    with pytest.raises(StoodStillError):
        standstill.check()
    with capture_logs() as logs:
        standstill.beat()
    assert [log["seconds"] for log in logs] == [SESSION_S]
    run(WARY_S - 1)
    with pytest.raises(StoodStillError):
        standstill.check()
    run(2)
    standstill.check()


def test_what_stands_still_twice_is_wary_for_the_second_time_too(
    standstill: Standstill, clock: Clock, run: Callable[[float], None]
) -> None:
    for _ in range(2):
        clock.now_s += SESSION_S
        standstill.beat()
        run(WARY_S - 1)
    with pytest.raises(StoodStillError):
        standstill.check()


async def test_a_loop_that_is_held_up_is_noticed(clock: Clock) -> None:
    standstill = Standstill(session_timeout_s=0.2, clock=clock)
    with capture_logs() as logs:
        async with standstill.watching(), asyncio.timeout(HANG_S):
            await asyncio.sleep(0)
            # Between two turns of the loop, as for a process that is stopped.
            clock.now_s += 0.3
            with pytest.raises(StoodStillError):
                standstill.check()
            while not logs:
                await asyncio.sleep(0)
    assert logs[0]["event"] == "stood still"
