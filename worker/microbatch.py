"""Micro-batches across jobs: many small requests, one call.

A *job* is a list of items that one caller waits for. A *batch* is a list of items of like cost, from any jobs, given to
one function on a thread of its own. Nothing here knows what an item is.

When the function is free, a batch leaves as soon as the first waiting item has waited ``max_wait_s``, or at once if a
budget is full; items that arrived while the function was busy have done their waiting. All state belongs to the loop.
"""

import asyncio
import time
from bisect import insort
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from worker.one_thread import OneThread

Item = TypeVar("Item")
Result = TypeVar("Result")

# How far beyond one batch's items to look for some of like cost: more pads less, and lets the oldest company wait.
LOOK_AHEAD = 8

# Finds two items that break a batch of 1,024; a function that fails for all is not called a thousand times.
MAX_RERUNS = 40


class ClosedError(RuntimeError):
    """The batcher was closed before the job was done."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that has run. Costs are in the unit of the ``cost`` function."""

    items: int
    cost: int
    padded_cost: int
    """Items times the largest cost among them."""
    seconds: float
    wait_s: float
    """How long its first item had waited."""


@dataclass(slots=True, eq=False)
class _Job(Generic[Item, Result]):
    items: Sequence[Item]
    costs: Sequence[int]
    turn: int
    """Jobs are served in this order: see ``MicroBatcher.submit``."""
    arrived_s: float
    done: "asyncio.Future[list[Result]]"
    waiting: list[int] = field(default_factory=list)
    """Indices of items not yet in a batch."""
    results: dict[int, Result] = field(default_factory=dict)


_Place = tuple[_Job[Item, Result], int]


class MicroBatcher(Generic[Item, Result]):
    """Batches the items of concurrent jobs. Built and used on the loop's thread.

    ``run`` gets a batch's items and returns one result (or one exception) per item, in order. It is called on one
    thread, one batch at a time. If it raises, the batch is halved until the items that break it are alone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        name: str,
        max_items: int,
        max_cost: int,
        max_wait_s: float,
        cost: Callable[[Item], int],
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        self._run = run
        self._max_items = max_items
        self._max_cost = max_cost
        self._max_wait_s = max_wait_s
        self._cost = cost
        self._on_batch = on_batch
        self._jobs: list[_Job[Item, Result]] = []
        """Jobs with waiting items, by turn."""
        self._open: set[_Job[Item, Result]] = set()
        """Jobs whose callers wait."""
        self._served = 0
        self._arrived = asyncio.Event()
        self._thread = OneThread(name)
        self._loop = asyncio.get_running_loop()
        self._serving = self._loop.create_task(self._serve(), name=name)
        self._serving.add_done_callback(self._fail_open_jobs)

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Return one result per item, in order; raise the first of its items' errors, or ClosedError.

        Jobs are served by the work that was done when they arrived plus their own: smaller jobs overtake a larger one
        only until as much work as it brings has been done since it came, so that it neither starves them nor is
        starved by them. Cancelling takes the items that are not in a batch yet out of the queue. What waits is
        bounded by the callers.
        """
        if self._serving.done():
            raise ClosedError("the batcher is closed")
        if not items:
            return []
        costs = [self._cost(item) for item in items]
        job = _Job(items, costs, self._served + sum(costs), self._loop.time(), self._loop.create_future())
        job.waiting = list(range(len(items)))
        self._open.add(job)
        insort(self._jobs, job, key=lambda waiting: waiting.turn)
        self._arrived.set()
        try:
            return await job.done
        finally:
            self._open.discard(job)
            self._forget(job)

    async def close(self, *, timeout_s: float) -> None:
        """Fail what waits, let the running batch end, join the thread; a hung function is left behind in time."""
        self._serving.cancel()
        self._thread.close()
        await asyncio.to_thread(self._thread.join, timeout_s)

    def _fail_open_jobs(self, serving: "asyncio.Task[None]") -> None:
        error = None if serving.cancelled() else serving.exception()
        for job in self._open:
            _settle(job, ClosedError(f"the batcher ended: {error or 'closed'}"))

    async def _serve(self) -> None:
        while True:
            batch = await self._next_batch()
            items = [job.items[index] for job, index in batch]
            waited_s = self._loop.time() - min(job.arrived_s for job, _ in batch)
            results, seconds = await self._thread.run(partial(self._timed, items))
            for (job, index), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    _settle(job, result)
                    self._forget(job)
                else:
                    job.results[index] = result
                    if len(job.results) == len(job.items):
                        _settle(job, [job.results[i] for i in range(len(job.items))])
            costs = [job.costs[index] for job, index in batch]
            self._served += sum(costs)
            self._on_batch(BatchReport(len(batch), sum(costs), len(batch) * max(costs), seconds, waited_s))

    async def _next_batch(self) -> "list[_Place[Item, Result]]":
        while True:
            self._arrived.clear()
            left_s = None
            if self._jobs:
                left_s = min(job.arrived_s for job in self._jobs) + self._max_wait_s - self._loop.time()
                window = self._window()
                full = len(window) >= self._max_items or sum(j.costs[i] for j, i in window) >= self._max_cost
                if left_s <= 0 or full:
                    return self._take(window)
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()

    def _window(self) -> "list[_Place[Item, Result]]":
        """Return the items that may share the next batch, in the order their jobs are served."""
        window: list[_Place[Item, Result]] = []
        for job in self._jobs:
            window += [(job, index) for index in job.waiting[: LOOK_AHEAD * self._max_items - len(window)]]
            if len(window) >= LOOK_AHEAD * self._max_items:
                break
        return window

    def _take(self, window: "list[_Place[Item, Result]]") -> "list[_Place[Item, Result]]":
        """Take the first item of the window and those nearest to it in cost, as many as the budgets hold.

        The first one always goes, so nobody waits for company for ever, however its cost compares.
        """
        by_cost = sorted(window, key=lambda place: place[0].costs[place[1]])
        costs = [job.costs[index] for job, index in by_cost]

        def fits(low: int, high: int) -> bool:
            return low >= 0 and high <= len(costs) and (high - low) * costs[high - 1] <= self._max_cost

        first = by_cost.index(window[0])
        low, high = first, first + 1
        while high - low < self._max_items:
            below, above = fits(low - 1, high), fits(low, high + 1)
            if below and above:
                below = costs[first] - costs[low - 1] <= costs[high] - costs[first]
            elif not (below or above):
                break
            low, high = (low - 1, high) if below else (low, high + 1)
        batch = by_cost[low:high]
        for job in {id(job): job for job, _ in batch}.values():
            taken = {index for owner, index in batch if owner is job}
            job.waiting = [index for index in job.waiting if index not in taken]
            if not job.waiting:
                self._jobs.remove(job)
        return batch

    def _forget(self, job: "_Job[Item, Result]") -> None:
        job.waiting = []
        if job in self._jobs:
            self._jobs.remove(job)

    def _timed(self, items: Sequence[Item]) -> "tuple[Sequence[Result | Exception], float]":
        begun_s = time.monotonic()
        results = run_isolating(self._run, items)
        return results, time.monotonic() - begun_s


def run_isolating(
    run: Callable[[Sequence[Item]], Sequence[Result | Exception]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Call ``run``; where it raises, halve the items until those that break it are alone with their error.

    After ``MAX_RERUNS`` further calls the rest fails with the last error: then it is not the items' fault.
    """
    results: list[Result | Exception] = [ClosedError("not run")] * len(items)
    parts = [(0, len(items))]
    calls = 0
    while parts:
        start, end = parts.pop()
        try:
            calls += 1
            outcome: Sequence[Result | Exception] = run(items[start:end])
            if len(outcome) != end - start:
                raise RuntimeError(f"{end - start} items gave {len(outcome)} results")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - handed to the callers, item by item
            if end - start > 1 and calls <= MAX_RERUNS:
                middle = (start + end) // 2
                parts += [(middle, end), (start, middle)]
                continue
            outcome = [error] * (end - start)
        results[start:end] = outcome
    return results


def _settle(job: "_Job[Item, Result]", outcome: "list[Result] | Exception") -> None:
    if job.done.done():
        return
    if isinstance(outcome, Exception):
        job.done.set_exception(outcome)
    else:
        job.done.set_result(outcome)
