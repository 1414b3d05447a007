"""A broken producer stops the worker instead of draining its topic into dead letters."""

import pytest

from worker.errors import FatalError
from worker.kafka.deliver.poison_guard import PoisonGuard


def test_poison_now_and_then_is_borne() -> None:
    guard = PoisonGuard(limit=0.5, window=10)
    for number in range(1_000):
        guard.count(poison=number % 2 == 0)


def test_nothing_is_judged_before_the_window_is_full() -> None:
    guard = PoisonGuard(limit=0.0, window=10)
    for _ in range(9):
        guard.count(poison=True)
    with pytest.raises(FatalError, match=r"10 of the last 10 events.*POISON_LIMIT=1"):
        guard.count(poison=True)


def test_what_was_good_long_ago_does_not_count() -> None:
    guard = PoisonGuard(limit=0.5, window=10)
    for _ in range(10_000):
        guard.count(poison=False)
    for _ in range(5):
        guard.count(poison=True)
    with pytest.raises(FatalError, match="6 of the last 10"):
        guard.count(poison=True)


def test_a_limit_of_one_bears_everything() -> None:
    guard = PoisonGuard(limit=1.0, window=10)
    for _ in range(100):
        guard.count(poison=True)
