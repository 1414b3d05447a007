"""A neighbour computes while it is wanted, and outlives nobody."""

import subprocess
import sys

import psutil
import pytest

from tests.patience import HANG_S
from worker.errors import FatalError
from worker.local.process import await_condition
from worker.rerank import neighbour
from worker.rerank.neighbour import busy_neighbour

OWNER = """
import psutil, sys
from worker.rerank.neighbour import busy_neighbour
with busy_neighbour():
    print(psutil.Process().children()[0].pid, flush=True)
    sys.stdin.read()
"""


def neighbours() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if neighbour.SPIN in child.cmdline()]


def test_a_neighbour_computes_as_long_as_it_is_wanted() -> None:
    with busy_neighbour():
        [process] = neighbours()
        assert await_condition(lambda: process.cpu_times().user > 0.5, timeout_s=HANG_S)
    assert neighbours() == []


def test_a_neighbour_ends_when_what_it_was_beside_fails() -> None:
    with pytest.raises(ValueError, match="measured"), busy_neighbour():
        raise ValueError("measured in vain")
    assert neighbours() == []


def test_a_neighbour_ends_with_an_owner_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        process = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
        owner.wait(HANG_S)
    assert await_condition(lambda: not process.is_running(), timeout_s=HANG_S)


def test_a_neighbour_that_can_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "SPIN", "raise SystemExit")
    with pytest.raises(FatalError, match="can't be started"), busy_neighbour():
        pytest.fail("nothing runs beside")
