import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from worker.domain import Query
from worker.errors import ExpiredError
from worker.recall.search_queue import SearchQueue, WaitingQuery

MakeWaiting = Callable[..., WaitingQuery]


@pytest.fixture
async def waiting() -> MakeWaiting:
    """Make a query that waits; its name's first letter is what it can share a call with."""

    def make(name: str, deadline_s: float | None = None) -> WaitingQuery:
        query = Query(id=name, text=name, collection="documents", top_k=3, top_n=2)
        vector = np.ones(1, dtype=np.float32)
        return WaitingQuery(query, vector, name[0], 0.0, deadline_s, asyncio.get_running_loop().create_future())

    return make


def names(batch: list[WaitingQuery]) -> list[str]:
    return [waiting.query.id for waiting in batch]


def filled(*waiting: WaitingQuery) -> SearchQueue:
    queue = SearchQueue()
    for one in waiting:
        queue.add(one)
    return queue


async def test_the_oldest_leads_and_those_like_it_join_in_their_order(waiting: MakeWaiting) -> None:
    queue = filled(*map(waiting, ["a1", "b1", "a2", "a3", "b2"]))
    assert names(queue.take(2)) == ["a1", "a2"]
    assert names(queue.take(9)) == ["b1", "b2"]
    assert names(queue.take(9)) == ["a3"]
    assert len(queue) == 0


async def test_the_nearest_deadline_leads_every_other_call_and_starves_nobody(waiting: MakeWaiting) -> None:
    queue = filled(*map(waiting, "abc"), waiting("d", 5.0), waiting("e", 4.0), waiting("f", 6.0))
    led = [names(queue.take(1))[0] for _ in range(6)]
    assert led == ["e", "a", "d", "b", "f", "c"]


async def test_a_leader_out_of_turn_brings_those_like_it(waiting: MakeWaiting) -> None:
    queue = filled(*map(waiting, ["b1", "a1", "a2"]), waiting("a3", 5.0))
    assert names(queue.take(2)) == ["a3", "a1"]
    assert names(queue.take(2)) == ["b1"]


async def test_who_leaves_is_in_no_call(waiting: MakeWaiting) -> None:
    first, second = waiting("a1", 1.0), waiting("a2")
    queue = filled(first, second)
    assert queue.remove(first)
    assert not queue.remove(first)
    assert names(queue.take(9)) == ["a2"]
    assert not queue.remove(second)


async def test_who_is_too_late_is_told_and_in_no_call(waiting: MakeWaiting) -> None:
    late, later, never = waiting("a1", 1.0), waiting("a2", 2.0), waiting("a3")
    queue = filled(late, later, never)
    queue.expire(1.0)
    assert isinstance(late.done.exception(), ExpiredError)
    assert not later.done.done()
    assert names(queue.take(9)) == ["a2", "a3"]


async def test_only_the_first_outcome_counts(waiting: MakeWaiting) -> None:
    one = waiting("a")
    one.settle([])
    one.settle(ExpiredError("too late"))
    assert one.done.result() == []
