"""Differences: what is one is found, what is none is not, at the rates that were promised."""

import numpy as np
import pytest

from worker.evaluation.significance import difference


def test_a_true_difference_is_found() -> None:
    random = np.random.default_rng(1)
    before = random.uniform(0, 1, 60)
    found = difference(before, before + random.normal(0.08, 0.1, 60))
    assert found.low > 0
    assert found.p < 0.001
    assert found.low < found.mean < found.high


def test_no_difference_is_seldom_found_and_the_interval_holds_the_truth() -> None:
    """120 trials where the truth is nought: 6 false finds are expected, more than 14 come about once in 1,000 runs."""
    random = np.random.default_rng(2)
    trials = [difference(np.zeros(40), random.normal(0.0, 0.1, 40)) for _ in range(120)]
    assert 1 <= sum(each.p < 0.05 for each in trials) <= 14
    # A percentile interval of 40 is a little too narrow: it holds the truth 94 times in 100.
    assert 103 <= sum(each.low <= 0 <= each.high for each in trials) <= 119


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Of the mean of n normal differences: 1.96 standard errors to either side."""
    random = np.random.default_rng(3)
    drawn = random.normal(0.1, 0.2, 400)
    found = difference(np.zeros(400), drawn)
    half = 1.96 * drawn.std() / np.sqrt(400)
    assert found.low == pytest.approx(drawn.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(drawn.mean() + half, abs=0.05 * half)


def test_few_questions_have_their_exact_p() -> None:
    """Five gains of one size: of the 32 ways to sign them, two are as extreme."""
    assert difference(np.zeros(5), np.full(5, 0.1)).p == pytest.approx(2 / 32)


def test_equal_orders_are_no_difference() -> None:
    same = np.array([0.3, 0.0, 1.0])
    found = difference(same, same.copy())
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert (found.wins, found.ties, found.losses) == (0, 3, 0)


def test_questions_are_counted_and_rounding_is_no_win() -> None:
    found = difference(np.array([0.1, 0.1, 0.1, 0.1]), np.array([0.2, 0.3, 0.0, 0.1 + 1e-15]))
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)


def test_the_same_figures_give_the_same_outcome() -> None:
    after = np.random.default_rng(5).normal(0.1, 0.1, 30)
    assert difference(np.zeros(30), after) == difference(np.zeros(30), after)
