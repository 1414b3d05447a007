"""The jobs of a micro-batcher that wait, and which of their items share the next batch."""

import asyncio
import math
from bisect import insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic

from worker.domain import Item, Result
from worker.telemetry.marks import MARK

# How far beyond one batch's items to look for some of like cost: more pads less, and lets the oldest company wait.
LOOK_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a batch may be, and how long the first item of one waits for company."""

    max_items: int
    max_cost: int
    """Of a batch of several items, padding included; one item may cost more."""
    max_wait_s: float
    padded: bool = False
    """Each item of a batch costs as much as the largest one, so that like goes best with like."""


@dataclass(slots=True, eq=False)
class Job(Generic[Item, Result]):
    """The items one caller waits for. Times are on the loop's clock."""

    items: Sequence[Item]
    costs: Sequence[int]
    virtual_finish: int
    """Work that had been served when it came, plus its own: the order of fair queueing (Demers et al., 1989)."""
    arrived_s: float
    deadline_s: float | None
    done: "asyncio.Future[list[Result]]"
    key: Hashable = None
    """Jobs of unlike keys share no batch."""
    mark: object = field(default_factory=MARK.get)
    """What its caller is named by in the reports of its batches; see ``MARK``."""
    waiting: list[int] = field(default_factory=list)
    """Indices of items not yet in a batch."""
    results: list[Result | None] = field(init=False)
    """By index; of those that are done."""
    left: int = field(init=False)
    """How many are not done."""

    def __post_init__(self) -> None:
        self.left = len(self.items)
        self.results = [None] * self.left

    @property
    def urgency(self) -> tuple[float, int]:
        """Its place in a line by deadline, the nearest first."""
        return (math.inf if self.deadline_s is None else self.deadline_s, self.virtual_finish)

    def settle(self, outcome: "list[Result] | Exception") -> None:
        """Wake the caller with its results or an error; only the first outcome counts."""
        if self.done.done():
            return
        if isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


ItemRef = tuple[Job[Item, Result], int]
"""A job, and the index of one of its items."""


class JobQueue(Generic[Item, Result]):
    """Jobs with items that wait. Belongs to one thread.

    They are served by turn, which is the order of their virtual finish: a smaller job overtakes a larger one only until
    as much work as the larger one brings has been done since it came, so that it neither starves the small ones nor is
    starved by them. A deadline buys this much: every other batch may be led by the job whose deadline is nearest,
    whatever its turn. The batches between stay with the turns, so who has no deadline, or a late one, waits at most
    twice as long for it.
    """

    def __init__(self, limits: Limits) -> None:
        self.max_cost = limits.max_cost
        """As ``Limits`` says, or lowered since."""
        self._max_items = limits.max_items
        self._max_wait_s = limits.max_wait_s
        self._padded = limits.padded
        self._jobs: list[Job[Item, Result]] = []
        """By virtual finish: the order in which their turns come."""
        self._dated: dict[Job[Item, Result], None] = {}
        """Those of them that have a deadline, for most have none and thousands may wait."""
        self._waiting_items = 0
        self._waiting_cost = 0
        self._last_jumped = False
        """The last batch was led by a job whose turn it was not."""

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._waiting_items

    def add(self, job: Job[Item, Result]) -> None:
        """Queue a job with all its items."""
        job.waiting = list(range(len(job.items)))
        insort(self._jobs, job, key=lambda waiting: waiting.virtual_finish)
        if job.deadline_s is not None:
            self._dated[job] = None
        self._waiting_items += len(job.items)
        self._waiting_cost += sum(job.costs)

    def remove(self, job: Job[Item, Result]) -> None:
        """Take what waits of a job out of the queue."""
        if job.waiting:
            self._leave(job)
            self._waiting_items -= len(job.waiting)
            self._waiting_cost -= sum(job.costs[index] for index in job.waiting)
            job.waiting = []

    def expired(self, now_s: float) -> list[Job[Item, Result]]:
        """Return the jobs whose deadline has passed."""
        return [job for job in self._dated if job.deadline_s is not None and job.deadline_s <= now_s]

    def leaves_at_s(self) -> float:
        """Return when the next batch leaves, full or not: by then its first item has waited ``max_wait_s``.

        Nobody waits for company until it is too late: at once if a deadline comes before that.
        """
        arrived_s = min(job.arrived_s for job in self._jobs)
        urgent = self._most_urgent()
        if urgent is not None and urgent.deadline_s is not None and urgent.deadline_s <= arrived_s + self._max_wait_s:
            return arrived_s
        return arrived_s + self._max_wait_s

    def fills_a_batch(self) -> bool:
        """Return whether more items could not make the next batch larger."""
        return self._waiting_items >= self._max_items or self._waiting_cost >= self.max_cost

    def cost_of(self, costs: Sequence[int]) -> int:
        """Return what a batch of items of these costs takes, padding included."""
        return len(costs) * max(costs) if self._padded else sum(costs)

    def take(self, at_most: int | None = None) -> list[ItemRef[Item, Result]]:
        """Take the first item in order of service and as many others as the budgets hold, ``at_most`` so many items.

        With padding those nearest to it in cost, without in the order of the jobs, so that a job is done sooner. The
        first one always goes, so nobody waits for company for ever, however its cost compares.
        """
        in_order = self._in_order()
        self._last_jumped = in_order[0] is not self._jobs[0]
        if in_order[0].key is not None:
            in_order = [job for job in in_order if job.key == in_order[0].key]
        max_items = self._max_items if at_most is None else min(at_most, self._max_items)
        batch = self._alike(in_order, max_items) if self._padded else self._in_turn(in_order, max_items)
        taken: defaultdict[Job[Item, Result], list[int]] = defaultdict(list)
        for job, index in batch:
            taken[job].append(index)
            self._waiting_cost -= job.costs[index]
        self._waiting_items -= len(batch)
        for job, indices in taken.items():
            if len(indices) == len(job.waiting):
                job.waiting = []
                self._leave(job)
            else:
                left = set(job.waiting).difference(indices)
                job.waiting = [index for index in job.waiting if index in left]
        return batch

    def _in_turn(self, in_order: Sequence[Job[Item, Result]], max_items: int) -> list[ItemRef[Item, Result]]:
        batch: list[ItemRef[Item, Result]] = []
        cost = 0
        for job, index in _items(in_order, max_items):
            cost += job.costs[index]
            if batch and cost > self.max_cost:
                break
            batch.append((job, index))
        return batch

    def _alike(self, in_order: Sequence[Job[Item, Result]], max_items: int) -> list[ItemRef[Item, Result]]:
        window = list(_items(in_order, LOOK_AHEAD * max_items))
        by_cost = sorted(window, key=lambda item: item[0].costs[item[1]])
        costs = [job.costs[index] for job, index in by_cost]

        def fits(low: int, high: int) -> bool:
            return low >= 0 and high <= len(costs) and (high - low) * costs[high - 1] <= self.max_cost

        first = by_cost.index(window[0])
        low, high = first, first + 1
        while high - low < max_items:
            below, above = fits(low - 1, high), fits(low, high + 1)
            if below and above:
                below = costs[first] - costs[low - 1] <= costs[high] - costs[first]
            elif not (below or above):
                break
            low, high = (low - 1, high) if below else (low, high + 1)
        return by_cost[low:high]

    def _in_order(self) -> Sequence[Job[Item, Result]]:
        urgent = None if self._last_jumped else self._most_urgent()
        if urgent is None:
            return self._jobs
        return [urgent, *(job for job in self._jobs if job is not urgent)]

    def _most_urgent(self) -> Job[Item, Result] | None:
        return min(self._dated, key=lambda job: job.urgency, default=None)

    def _leave(self, job: Job[Item, Result]) -> None:
        self._jobs.remove(job)
        self._dated.pop(job, None)


def marks_of(jobs: Iterable[Job[Item, Result]]) -> Sequence[object]:
    """Return the marks of these jobs, each once."""
    # By identity: a span's context can't be hashed.
    return list({id(job.mark): job.mark for job in jobs if job.mark is not None}.values())


def _items(jobs: Sequence[Job[Item, Result]], at_most: int) -> Iterator[ItemRef[Item, Result]]:
    """Yield what waits of the jobs, in their order."""
    return islice(((job, index) for job in jobs for index in job.waiting), at_most)
