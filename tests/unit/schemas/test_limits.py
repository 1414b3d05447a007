"""What a filter may be at most: at the bound it is taken, one beyond it is refused before anything is done with it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import QueryEvent, WireError, decode_query, limits
from schemas.limits import (
    MAX_EVENT_BYTES,
    MAX_FILTER_DEPTH,
    MAX_FILTER_INTEGER,
    MAX_FILTER_OPERANDS,
    MAX_FILTER_VALUES,
    filter_problem,
)

Filter = dict[str, Any]
scalars = st.text(max_size=5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
comparisons = st.dictionaries(
    st.sampled_from(["a", "b", "$and", ""]),
    scalars | st.dictionaries(st.sampled_from(["$eq", "$in", "$nin"]), scalars | st.lists(scalars, max_size=4)),
    max_size=2,
)
filters = st.recursive(
    comparisons,
    lambda inner: st.dictionaries(st.sampled_from(["$and", "$or", "a"]), st.lists(inner | scalars, max_size=4)),
    max_leaves=40,
)


def wide(count: int) -> Filter:
    return {"$or": [{f"field-{number}": number} for number in range(count)]}


def deep(levels: int) -> Filter:
    where: Filter = {"a": 1}
    for level in range(levels):
        where = {"$and" if level % 2 else "$or": [where, {"b": 2}]}
    return where


def listed(count: int) -> Filter:
    return {"$or": [{"a": {"$in": list(range(count - 1))}}, {"b": {"$nin": ["x"]}}]}


def integer(size: int) -> Filter:
    return {"a": {"$gt": size}}


def decoded(where: Filter) -> QueryEvent:
    return decode_query(json.dumps({"id": "q", "text": "t", "where": where}).encode())


BOUNDS = [
    pytest.param(wide, MAX_FILTER_OPERANDS, id="comparisons"),
    pytest.param(deep, MAX_FILTER_DEPTH, id="depth"),
    pytest.param(listed, MAX_FILTER_VALUES, id="values of lists"),
    pytest.param(integer, MAX_FILTER_INTEGER, id="integers"),
]


@pytest.mark.parametrize(("make", "bound"), BOUNDS)
def test_a_filter_at_a_bound_is_taken_and_beyond_it_refused(make: Callable[[int], Filter], bound: int) -> None:
    assert decoded(make(bound)).where == make(bound)
    with pytest.raises(WireError) as caught:
        decoded(make(bound + 1))
    assert caught.value.reason == "invalid_filter"


@pytest.mark.parametrize(
    "where",
    [
        pytest.param({"$or": [{}] * 300}, id="empty operands"),
        pytest.param({"$or": [1] * 300}, id="operands that are none"),
        pytest.param({f"k{number}": 1 for number in range(300)}, id="many fields at once"),
        pytest.param({"a": {"$in": [[1]] * 2}}, id="lists of lists"),
        pytest.param({"a": {"b": {"c": 1}}}, id="objects within a comparison"),
        pytest.param({"$and": {"$and": {"$and": 1}}}, id="no list where one belongs"),
    ],
)
def test_whatever_shape_a_filter_has_it_is_bounded(where: Filter) -> None:
    assert filter_problem(where) is not None


def test_a_producer_in_python_learns_it_when_the_event_is_made() -> None:
    with pytest.raises(ValidationError, match="more than 256 comparisons"):
        QueryEvent(id="q", text="t", where=wide(257))


def test_a_filter_beyond_the_bounds_beside_other_faults_is_an_invalid_event() -> None:
    with pytest.raises(WireError) as caught:
        decode_query(json.dumps({"id": 1, "text": "t", "where": wide(257)}).encode())
    assert caught.value.reason == "invalid_schema"
    assert "id" in str(caught.value)
    assert "where" in str(caught.value)


@given(filters)
def test_what_passes_is_within_every_bound_by_another_count(where: Filter) -> None:
    if filter_problem(where) is not None:
        return
    operands, values, depth = 0, 0, 0

    def count(part: Filter, level: int) -> None:
        nonlocal operands, values, depth
        depth = max(depth, level)
        for key, value in part.items():
            if key in limits.LOGICAL and isinstance(value, list):
                for operand in value:
                    if isinstance(operand, dict):
                        count(operand, level + 1)
                    else:
                        operands += 1
            else:
                operands += 1
                for one in value.values() if isinstance(value, dict) else [value]:
                    values += len(one) if isinstance(one, list) else 0

    count(where, 0)
    assert operands <= MAX_FILTER_OPERANDS
    assert values <= MAX_FILTER_VALUES
    assert depth <= MAX_FILTER_DEPTH


def test_the_largest_event_is_what_the_worker_says_it_is() -> None:
    shell = len(json.dumps({"id": "q", "text": "t", "metadata": {"padding": ""}}))

    def event(size: int) -> bytes:
        return json.dumps({"id": "q", "text": "t", "metadata": {"padding": "x" * (size - shell)}}).encode()

    assert decode_query(event(MAX_EVENT_BYTES)).id == "q"
    assert decode_query(event(2_000), max_bytes=2_000).id == "q"
    with pytest.raises(WireError, match="2001 bytes; the limit is 2000") as caught:
        decode_query(event(2_001), max_bytes=2_000)
    assert caught.value.reason == "event_too_large"
