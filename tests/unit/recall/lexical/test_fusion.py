"""Reciprocal rank fusion: by hand, and what holds for any orders."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.recall.lexical.fusion import fused


def test_what_both_orders_have_comes_before_what_one_has() -> None:
    # By hand: b has 0.0325, c 0.0320, a 0.0164, d 0.0159.
    assert fused(["a", "b", "c"], ["b", "c", "d"]) == ["b", "c", "a", "d"]


def test_orders_without_a_common_id_take_turns_and_the_first_one_begins() -> None:
    assert fused(["a", "b"], ["x", "y", "z"]) == ["a", "x", "b", "y", "z"]


def test_an_empty_order_changes_nothing() -> None:
    assert fused(["a", "b"], []) == ["a", "b"]
    assert fused([], ["a", "b"]) == ["a", "b"]


ORDERS = st.lists(st.integers(0, 30).map(str), unique=True, max_size=20)


@given(first=ORDERS, second=ORDERS)
def test_every_id_comes_once_and_where_both_orders_agree_so_does_the_fused_one(
    first: list[str], second: list[str]
) -> None:
    order = fused(first, second)
    assert sorted(order) == sorted({*first, *second})
    place = order.index
    for better, worse in pairwise(first):
        if better in second and worse in second and second.index(better) < second.index(worse):
            assert place(better) < place(worse)
