"""A call that fails is made again with fewer items until those that break it are alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batching.bisect import MAX_RERUNS, BatchOutcome, bisect_failing
from worker.errors import FatalError, TransientError


@dataclass
class FakeCall:
    """Doubles its items, unless one of them is poison or they are too many."""

    poison: frozenset[int] = frozenset()
    fits: int = 1_000
    calls: int = 0
    scored: list[int] = field(default_factory=list)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls += 1
        if self.poison & set(items):
            raise ValueError("poison")
        if len(items) > self.fits:
            raise MemoryError
        self.scored += items
        return [2 * item for item in items]


def ran(call: Callable[[Sequence[int]], list[int]], items: Sequence[int]) -> BatchOutcome[int]:
    try:
        return BatchOutcome(call(items), [range(len(items))])
    except (ValueError, MemoryError) as error:
        return bisect_failing(call, items, error, out_of_memory=lambda error: isinstance(error, MemoryError))


def test_a_function_that_fails_for_all_is_not_called_for_each() -> None:
    call = FakeCall(poison=frozenset(range(1_000)))
    assert all(isinstance(result, ValueError) for result in ran(call, range(1_000)).results)
    assert call.calls <= 2 * MAX_RERUNS


@given(poison=st.sets(st.integers(0, 63), max_size=2))
def test_two_bad_items_among_many_are_found(poison: set[int]) -> None:
    outcome = ran(FakeCall(poison=frozenset(poison)), range(64))
    assert {item for item, result in enumerate(outcome.results) if isinstance(result, Exception)} == poison
    assert outcome.did_not_fit == []


@given(items=st.integers(1, 64), fits=st.integers(1, 64))
def test_the_parts_that_were_too_many_and_those_that_fitted_are_told(items: int, fits: int) -> None:
    call = FakeCall(fits=fits)
    outcome = ran(call, range(items))
    assert outcome.results == [2 * item for item in range(items)]
    assert sorted(position for part in outcome.fitted for position in part) == list(range(items)) == sorted(call.scored)
    assert all(len(part) > fits for part in outcome.did_not_fit)
    assert bool(outcome.did_not_fit) == (items > fits)


def test_parts_with_an_item_too_large_for_the_memory_by_itself_teach_nothing() -> None:
    def call(items: Sequence[int]) -> list[int]:
        if 5 in items:
            raise MemoryError
        return list(items)

    outcome = ran(call, range(8))
    assert [item for item, result in enumerate(outcome.results) if isinstance(result, MemoryError)] == [5]
    assert outcome.did_not_fit == []


@pytest.mark.parametrize("error", [TransientError("timed out"), FatalError("the device is lost")], ids=str)
def test_what_concerns_the_whole_batch_is_asked_once(error: Exception) -> None:
    calls = 0

    def call(items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        raise error

    assert bisect_failing(call, range(32), error).results == [error] * 32
    assert calls == 0


def test_an_outage_in_the_middle_ends_it_and_what_ran_before_is_kept() -> None:
    def call(items: Sequence[int]) -> list[int]:
        if 5 in items and len(items) > 1:
            raise ValueError("poison")
        if 6 in items:
            raise TransientError("away")
        return list(items)

    results = bisect_failing(call, range(16), ValueError("poison")).results
    assert results[:6] == [0, 1, 2, 3, 4, 5]
    assert {type(result) for result in results[6:]} == {TransientError}


def test_a_memory_that_is_too_short_for_anything_is_not_tried_for_each_item() -> None:
    call = FakeCall(fits=0)
    outcome = ran(call, range(1_000))
    assert all(isinstance(result, MemoryError) for result in outcome.results)
    assert outcome.fitted == []
    assert call.calls <= 2 * MAX_RERUNS
