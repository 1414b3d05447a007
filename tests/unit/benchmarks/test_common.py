import pytest

from benchmarks.common import percentile, significant, summary, tail


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


def test_significant_digits() -> None:
    assert significant(123456.0) == 123500.0
    assert significant(0.00123456) == 0.001235
