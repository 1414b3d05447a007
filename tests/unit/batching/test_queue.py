"""Who is served first, played without a clock: all items cost 1, so a batch is the head of the line."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batching.queue import Job, JobQueue, Limits

MAX_ITEMS = 8


@dataclass
class Line:
    """A queue, and how much has been served."""

    queue: JobQueue[str, str] = field(default_factory=lambda: JobQueue(Limits(MAX_ITEMS, 1_000, 0, padded=True)))
    served: int = 0
    left: dict[str, int] = field(default_factory=dict)
    done_at: dict[str, int] = field(default_factory=dict)
    """How much had been served when the job was done."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def come(self, name: str, items: int, *, deadline_s: float | None = None, key: str | None = None) -> Job[str, str]:
        job = Job([name] * items, [1] * items, self.served + items, 0.0, deadline_s, self.loop.create_future(), key)
        self.left[name] = items
        self.queue.add(job)
        return job

    def serve(self, at_most: int | None = None) -> list[str]:
        """Serve one batch; return whose items were in it, the leader's first."""
        batch = [job.items[index] for job, index in self.queue.take(at_most)]
        self.served += len(batch)
        for name in batch:
            self.left[name] -= 1
            if not self.left[name]:
                self.done_at[name] = self.served
        return batch

    def serve_all(self) -> None:
        while self.queue:
            self.serve()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.loop.close()


def test_the_nearest_deadline_leads_every_other_batch(line: Line) -> None:
    line.come("first by turn", 16)
    line.come("later", 100, deadline_s=20.0)
    line.come("sooner", 16, deadline_s=10.0)
    assert [line.serve()[0] for _ in range(5)] == ["sooner", "first by turn", "sooner", "first by turn", "later"]


def test_a_deadline_whose_turn_it_is_uses_up_no_jump(line: Line) -> None:
    line.come("sooner", 8, deadline_s=10.0)
    line.come("small", 9)
    line.come("later", 50, deadline_s=20.0)
    assert [line.serve()[0] for _ in range(3)] == ["sooner", "later", "small"]


@pytest.mark.parametrize("large_s", [None, 1.0, 99.0])
@pytest.mark.parametrize("small_s", [None, 2.0])
def test_neither_a_thousand_candidates_nor_twenty_starve_the_other(
    line: Line, large_s: float | None, small_s: float | None
) -> None:
    line.come("large", 1_000, deadline_s=large_s)
    small = []
    # Twenty candidates come with every batch: more than is served.
    while "large" not in line.done_at and line.served < 10_000:
        small.append((f"small {len(small)}", line.served))
        line.come(small[-1][0], 20, deadline_s=small_s)
        line.serve()
    assert line.done_at["large"] > 1_000, "those that came behind it were served too"
    early = [line.done_at[name] - came for name, came in small[:10]]
    assert max(early) <= 2 * (10 * 20) + 2 * MAX_ITEMS, "twice what was ahead of them"
    # Those that came while its thousand were served overtake it; each of their batches may be followed by a jump.
    overtaking = sum(20 for _, came in small if came + 20 < 1_000)
    assert line.done_at["large"] <= 2 * (overtaking + 1_000) + 2 * MAX_ITEMS


ARRIVALS = st.lists(
    st.tuples(st.integers(1, 60), st.none() | st.integers(1, 9).map(float), st.integers(0, 3)), min_size=1, max_size=25
)


@given(arrivals=ARRIVALS)
def test_a_job_waits_for_at_most_twice_the_work_before_its_turn(
    arrivals: list[tuple[int, float | None, int]],
) -> None:
    line = Line()
    came: dict[str, tuple[int, int]] = {}
    ahead: dict[str, int] = {}
    for number, (items, deadline_s, batches) in enumerate(arrivals):
        name, turn = f"job {number}", line.served + items
        for other, (_, turn_of_other) in came.items():
            if line.left[other]:
                ahead[name] = ahead.get(name, 0) + (line.left[other] if turn_of_other <= turn else 0)
                ahead[other] = ahead.get(other, 0) + (items if turn < turn_of_other else 0)
        came[name] = (line.served, turn)
        line.come(name, items, deadline_s=deadline_s)
        for _ in range(batches):
            if line.queue:
                line.serve()
    line.serve_all()
    line.loop.close()
    for name, (served, _) in came.items():
        own = arrivals[int(name.split()[1])][0]
        assert line.done_at[name] - served <= 2 * (ahead.get(name, 0) + own + MAX_ITEMS)


def test_what_is_removed_is_served_no_more(line: Line) -> None:
    line.come("stays", 3)
    line.queue.remove(line.come("goes", 2))
    assert line.serve() == ["stays"] * 3
    assert not line.queue


def test_jobs_are_told_apart_by_their_deadlines(line: Line) -> None:
    line.come("none", 1)
    past, now, later = (line.come(str(deadline_s), 1, deadline_s=deadline_s) for deadline_s in (1.0, 2.0, 3.0))
    assert line.queue.expired(2.0) == [past, now]
    assert later not in line.queue.expired(2.9)


def test_jobs_of_unlike_keys_share_no_batch_and_keep_their_turns(line: Line) -> None:
    for name in ("a1", "b1", "a2", "b2"):
        line.come(name, 1, key=name[0])
    urgent = line.come("b3", 1, deadline_s=1.0, key="b")
    assert line.serve() == ["b3", "b1", "b2"]
    assert not urgent.waiting
    assert line.serve() == ["a1", "a2"]
    assert not line.queue


def test_a_batch_has_no_more_items_than_are_asked_for(line: Line) -> None:
    line.come("first", 3)
    line.come("second", 20)
    assert line.serve(2) == ["first"] * 2
    assert len(line.queue) == 21
    assert line.serve(4) == ["first", *["second"] * 3]
    assert len(line.serve(100)) == MAX_ITEMS
