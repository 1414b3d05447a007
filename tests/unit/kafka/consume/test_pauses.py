"""Short back-pressure costs no record that was fetched ahead; long back-pressure is told to the client."""

import threading
import time

import pytest

from tests.patience import HANG_S
from worker.kafka.consume import pauses
from worker.kafka.consume.pauses import PauseSet, PollGate

EVERYTHING = PauseSet(everything=True)
ONE = frozenset({("queries", 3)})


class Clock:
    """A time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(pauses.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_everything_is_paused_by_not_polling_first_and_by_the_client_later(clock: Clock) -> None:
    gate = PollGate()
    gate.set(EVERYTHING)
    assert (gate.await_open(0), gate.to_apply) == (False, PauseSet())
    clock.now_s = pauses.HOLD_S
    # Polled again, for rebalances must be heard of; what is paused brings nothing.
    assert (gate.await_open(0), gate.to_apply) == (True, EVERYTHING)


def test_a_reason_more_does_not_hold_polling_any_longer(clock: Clock) -> None:
    gate = PollGate()
    gate.set(EVERYTHING)
    clock.now_s = pauses.HOLD_S
    gate.set(PauseSet(everything=True, partitions=ONE))
    assert (gate.await_open(0), gate.to_apply) == (True, PauseSet(everything=True, partitions=ONE))


@pytest.mark.usefixtures("clock")
def test_single_partitions_are_paused_by_the_client_at_once() -> None:
    gate = PollGate()
    gate.set(PauseSet(partitions=ONE))
    assert (gate.await_open(0), gate.to_apply) == (True, PauseSet(partitions=ONE))
    gate.set(PauseSet(everything=True, partitions=ONE))
    assert (gate.await_open(0), gate.to_apply) == (False, PauseSet(partitions=ONE))


@pytest.mark.parametrize("what", ["set", "wake"])
def test_whoever_waits_is_woken(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(pauses, "HOLD_S", 10 * HANG_S)
    gate = PollGate()
    gate.set(EVERYTHING)
    gate.await_open(0)
    waiting = threading.Thread(target=gate.await_open, args=(10 * HANG_S,), daemon=True)
    waiting.start()
    if what == "set":
        gate.set(PauseSet())
    else:
        gate.wake()
    waiting.join(HANG_S)
    assert not waiting.is_alive()


def test_a_wait_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "HOLD_S", 0.05)
    gate = PollGate()
    gate.set(EVERYTHING)
    begun_s = time.monotonic()
    while not gate.await_open(0.01):
        pass
    assert time.monotonic() - begun_s >= pauses.HOLD_S
