"""What probes are told, and what a worker that is stuck leaves behind."""

import subprocess
import sys
import time
from typing import Any

import pytest

from tests.patience import HANG_S
from worker.kafka.consume.polling import HANDOVER_TIMEOUT_S
from worker.kafka.deliver.delivery import TICK_S
from worker.settings.rules import LONGEST_POLL_S
from worker.telemetry import health as module
from worker.telemetry.health import HEARTBEAT_TIMEOUT_S, Health


def test_a_worker_that_starts_lives_and_is_not_ready() -> None:
    health = Health(starting="loading the models")
    assert health.why_not_live() is None
    assert health.why_not_ready() == "loading the models"


def test_a_loop_that_does_not_turn_is_dead() -> None:
    health = Health(starting=None, _loop_beat_s=time.monotonic() - HEARTBEAT_TIMEOUT_S - 1)
    assert "the loop has not turned" in str(health.why_not_live())
    assert health.why_not_ready() == health.why_not_live()


def test_a_consumer_that_does_not_poll_is_dead() -> None:
    health = Health(starting=None, poll_age_s=lambda: HEARTBEAT_TIMEOUT_S + 1)
    assert "Kafka has not been polled" in str(health.why_not_live())


class FakeThread:
    def __init__(self, name: str, busy_s: float | None) -> None:
        self.name = name
        self.busy_since_s = None if busy_s is None else time.monotonic() - busy_s


def test_a_thread_whose_call_does_not_end_is_dead_and_named() -> None:
    threads = [FakeThread("recall", None), FakeThread("rerank-tokenize", 2), FakeThread("compute", 11)]
    health = Health(starting=None, hang_timeout_s=10, threads=threads)
    assert str(health.why_not_live()).startswith("the thread 'compute' hangs: its call has run for 11 s")
    assert health.why_not_ready() == health.why_not_live()


def test_a_thread_that_works_lives_and_so_does_one_that_loads_models_for_long() -> None:
    assert Health(starting=None, hang_timeout_s=10, threads=[FakeThread("compute", 9)]).why_not_live() is None
    assert Health(starting="loading", hang_timeout_s=10, threads=[FakeThread("compute", 99)]).why_not_live() is None


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        ({"draining": True}, "draining"),
        ({"brokers_down": lambda: True}, "no Kafka broker can be reached"),
        ({"joined": lambda: False}, "waiting for the consumer group"),
        ({"stopped": lambda: "q-3 has stopped: no topic"}, "q-3 has stopped: no topic"),
        ({"recall": lambda: "no collection"}, "no collection"),
        ({"joined": lambda: True, "brokers_down": lambda: False, "stopped": lambda: None}, None),
    ],
)
def test_why_a_worker_that_lives_is_not_ready(signs: dict[str, Any], reason: str | None) -> None:
    health = Health(starting=None, **signs)
    assert health.why_not_live() is None
    assert health.why_not_ready() == reason


# A process of its own, for the watchdog belongs to the interpreter and writes to its standard error. It must hang for
# longer than its heartbeat may be old: there is no condition to wait for.
STUCK = f"""
import time
import {module.__name__} as health
health.HEARTBEAT_TIMEOUT_S = 0.2
watched = health.Health(starting=None)
watched.beat()
def where_it_hangs():
    time.sleep(2)
where_it_hangs()
"""


@pytest.mark.slow
def test_a_stuck_worker_dumps_its_stacks_once() -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert ended.stderr.count("Timeout (") == 1
    assert "where_it_hangs" in ended.stderr


@pytest.mark.slow
def test_a_worker_that_ends_is_not_taken_for_stuck() -> None:
    ending = STUCK.replace("watched.beat()", "watched.beat(); watched.end()")
    ended = subprocess.run([sys.executable, "-c", ending], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert ended.stderr == ""


def test_no_setting_makes_a_healthy_worker_look_dead() -> None:
    # A poll of the longest may be followed by a hand-over of its longest.
    assert LONGEST_POLL_S + HANDOVER_TIMEOUT_S < HEARTBEAT_TIMEOUT_S
    assert TICK_S < HEARTBEAT_TIMEOUT_S
