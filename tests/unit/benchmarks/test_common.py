from itertools import pairwise
from statistics import mean, pstdev

import pytest

from benchmarks.common import arrivals, ideal_latencies, percentile, significant, summary, tail


def test_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile([1, 2], 0.5) == 1
    assert percentile([7], 0.99) == 7


def test_percentile_of_a_hundred_values_is_the_value_of_that_rank() -> None:
    assert tail(list(range(1, 101))) == {"p50": 50, "p95": 95, "p99": 99}


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 0.5)


def test_summary_gives_median_and_spread() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}
    assert summary([]) == {"n": 0}


def test_arrivals_are_the_same_for_the_same_seed_and_in_order() -> None:
    schedule = arrivals(50, 10, seed=3)
    assert schedule == arrivals(50, 10, seed=3) != arrivals(50, 10, seed=4)
    assert schedule == sorted(schedule)
    assert 0 < schedule[0] <= schedule[-1] < 10


def test_arrivals_come_at_the_rate_with_gaps_as_uneven_as_a_poisson_process_has() -> None:
    schedule = arrivals(100, 100, seed=1)
    gaps = [later - earlier for earlier, later in pairwise(schedule)]
    assert len(schedule) == pytest.approx(10_000, rel=0.05)
    assert pstdev(gaps) == pytest.approx(mean(gaps), rel=0.05)


def test_significant_digits() -> None:
    assert significant(123456.0) == 123500.0
    assert significant(0.00123456) == 0.001235


def test_an_ideal_server_lets_wait_only_who_comes_before_it_is_free() -> None:
    assert ideal_latencies([0.0, 1.0, 1.5, 9.0], service_s=2.0) == [2.0, 3.0, 4.5, 2.0]
