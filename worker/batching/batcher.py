"""Micro-batches across jobs: many small requests, one call.

A *job* is a list of items that one caller waits for. A *batch* is a list of items of like cost, from any jobs, given to
one function on a thread of its own. Nothing here knows what an item is.

When nothing is under way, a batch leaves as soon as the first waiting item has waited ``max_wait_s``, or at once if a
budget is full; items that arrived meanwhile have done their waiting. Behind a batch under way the next may leave before
that one is done, so that a device finds it there, but only if it is full: others may still join one that is not. All
state belongs to the loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, cast

import structlog

from worker.batching.bisect import BatchOutcome, bisect_failing
from worker.batching.executor import SingleThreadExecutor, panics_as_errors
from worker.batching.queue import ItemRef, Job, JobQueue, Limits, marks_of
from worker.domain import Item, Result
from worker.errors import ExpiredError

logger = structlog.get_logger()

Wait = Callable[[], Sequence[Result | Exception]]
"""Waits for a batch that was started: one result, or one exception, per item, in order."""
Start = Callable[[Sequence[Item]], Wait[Result]]

BATCHES_BEFORE_MORE = 100
"""To try for more memory costs a batch that is run again in parts if there is none: seldom enough not to be felt."""


class ClosedError(RuntimeError):
    """The batcher was closed before the job was done."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that has run. Costs are in the unit of the ``cost`` function."""

    items: int
    cost: int
    padded_cost: int
    """Items times the largest cost among them; the sum of the costs where nothing is padded."""
    seconds: float
    wait_s: float
    """How long its first item had waited."""
    budget: int
    """Most that the next batch may cost: lowered where memory was too short, until it recovers."""
    marks: Sequence[object] = ()
    """Whose jobs it held, of those that have a mark."""


class MicroBatcher(Generic[Item, Result]):
    """Batches the items of concurrent jobs. Built and used on the loop's thread.

    ``start`` gets a batch's items; what it returns is called to wait for them and returns one result (or one
    exception) per item, in order. It is called on one thread, one batch at a time: on ``executor``, which stays its
    owner's, or on one of the batcher's own. With ``under_way`` above 1 so many batches may be started before the
    first is done; they are waited for on a thread of the batcher's own, in their order. If either call raises a
    WorkerError, that is what became of each item; at any other the batch is halved until the items that break it
    are alone. Where it raises what ``out_of_memory`` tells to be a lack of memory and a part fits, the limit of the
    cost is lowered to what fitted. Nobody says when the memory is free again: after ``BATCHES_BEFORE_MORE`` batches
    that fitted the limit doubles, until it is what it was.
    """

    def __init__(
        self,
        start: Start[Item, Result],
        *,
        name: str,
        limits: Limits,
        cost: Callable[[Item], int],
        on_batch: Callable[[BatchReport], None],
        under_way: int = 1,
        out_of_memory: Callable[[Exception], bool] = lambda _: False,
        executor: SingleThreadExecutor | None = None,
    ) -> None:
        self._start = _one_result_per_item(start)
        self._name = name
        self._cost = cost
        self._on_batch = on_batch
        self._out_of_memory = out_of_memory
        self._queue: JobQueue[Item, Result] = JobQueue(limits)
        self._full_cost = limits.max_cost
        self._fitted_since = 0
        """Batches since the budget last changed."""
        self._open: set[Job[Item, Result]] = set()
        """Jobs whose callers wait."""
        self._served = 0
        self._under_way = 0
        self._most_under_way = under_way
        self._ended_s = 0.0
        """When the last batch was done, on the monotonic clock."""
        self._changed = asyncio.Event()
        """Something arrived, or a batch is done."""
        self._executor = executor or SingleThreadExecutor(name)
        self._waiting = SingleThreadExecutor(f"{name}-wait") if under_way > 1 else None
        self._own_threads = [] if executor is not None else [self._executor]
        self._own_threads += [] if self._waiting is None else [self._waiting]
        self._loop = asyncio.get_running_loop()
        self._serving = self._loop.create_task(self._serve(), name=name)
        self._serving.add_done_callback(self._fail_open_jobs)

    async def submit(self, items: Sequence[Item], *, deadline_s: float | None = None) -> list[Result]:
        """Return one result per item, in order; raise the first of its items' errors, ExpiredError or ClosedError.

        ``deadline_s`` is on the loop's clock: the caller learns then that it is too late, and no item goes into a batch
        after it. Who is served first: see ``JobQueue``. Cancelling takes the items that are not in a batch yet out of
        the queue. What waits is bounded by the callers.
        """
        if self._serving.done():
            raise ClosedError("the batcher is closed")
        if not items:
            return []
        costs = list(map(self._cost, items))
        arrived_s = self._loop.time()
        job = Job(items, costs, self._served + sum(costs), arrived_s, deadline_s, self._loop.create_future())
        self._open.add(job)
        self._queue.add(job)
        self._changed.set()
        expiry = None if deadline_s is None else self._loop.call_at(deadline_s, self._expire, job)
        try:
            return await job.done
        finally:
            if expiry is not None:
                expiry.cancel()
            self._open.discard(job)
            self._queue.remove(job)

    @property
    def threads(self) -> Sequence[SingleThreadExecutor]:
        """The threads on which a batch may hang."""
        return [self._executor] if self._waiting is None else [self._executor, self._waiting]

    async def close(self, *, timeout_s: float) -> None:
        """Fail what waits, let the running batches end, join its own threads; a hung one is left behind in time."""
        self._serving.cancel()
        for thread in self._own_threads:
            await thread.aclose(timeout_s)

    def _fail_open_jobs(self, serving: "asyncio.Task[None]") -> None:
        error = None if serving.cancelled() else serving.exception()
        for job in self._open:
            job.settle(ClosedError(f"the batcher ended: {error or 'closed'}"))

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                batch = await self._next_batch()
                self._under_way += 1
                group.create_task(self._see_through(batch), name=f"{self._name}-batch")

    async def _see_through(self, batch: list[ItemRef[Item, Result]]) -> None:
        """Run a batch, tell the callers, report."""
        waited_s = self._loop.time() - min(job.arrived_s for job, _ in batch)
        ran, seconds = await self._outcome([job.items[index] for job, index in batch])
        self._under_way -= 1
        self._changed.set()
        for (job, index), result in zip(batch, ran.results, strict=True):
            if isinstance(result, Exception):
                job.settle(result)
                self._queue.remove(job)
            else:
                job.results[index] = result
                job.left -= 1
                if not job.left:
                    job.settle(cast("list[Result]", job.results))
        costs = [job.costs[index] for job, index in batch]
        self._served += sum(costs)
        self._heed(ran, costs)
        padded = self._queue.cost_of(costs)
        marks = marks_of(job for job, _ in batch)
        self._on_batch(BatchReport(len(batch), sum(costs), padded, seconds, waited_s, self._queue.max_cost, marks))

    async def _next_batch(self) -> list[ItemRef[Item, Result]]:
        while True:
            self._changed.clear()
            # The timers of deadlines that have just passed may come after this in the same turn of the loop.
            for job in self._queue.expired(self._loop.time()):
                self._expire(job)
            left_s = None
            if self._queue and self._under_way < self._most_under_way:
                if self._queue.fills_a_batch():
                    return self._queue.take()
                if not self._under_way:
                    left_s = self._queue.leaves_at_s() - self._loop.time()
                    if left_s <= 0:
                        return self._queue.take()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()

    def _expire(self, job: Job[Item, Result]) -> None:
        job.settle(ExpiredError(f"the deadline passed in {self._name}, with {len(job.waiting)} items in the queue"))
        self._queue.remove(job)

    async def _outcome(self, items: Sequence[Item]) -> tuple[BatchOutcome[Result], float]:
        """Return what became of a batch, and the seconds that were its own."""
        begun_s = time.monotonic()
        try:
            wait, begun_s = await self._executor.run(partial(self._begin, items))
            ran = BatchOutcome(wait() if self._waiting is None else await self._waiting.run(wait))
        except Exception as error:  # noqa: BLE001 - handed to the callers, item by item
            again = partial(bisect_failing, self._whole, items, error, out_of_memory=self._out_of_memory)
            ran = await self._executor.run(again)
        begun_s, self._ended_s = max(begun_s, self._ended_s), time.monotonic()
        return ran, self._ended_s - begun_s

    def _begin(self, items: Sequence[Item]) -> tuple[Wait[Result], float]:
        # The time is taken on the thread, which may have had other calls before.
        begun_s = time.monotonic()
        wait = self._start(items)
        if self._waiting is None:
            results = wait()
            return lambda: results, begun_s
        return wait, begun_s

    def _whole(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        return self._start(items)()

    def _heed(self, ran: BatchOutcome[Result], costs: Sequence[int]) -> None:
        """Lower the budget to what fitted, if together the items were too many for the memory; raise it again later."""
        too_much = min((self._cost_of(costs, part) for part in ran.did_not_fit), default=0)
        fitted = [cost for part in ran.fitted if (cost := self._cost_of(costs, part)) < too_much]
        if fitted and max(fitted) < self._queue.max_cost:
            self._queue.max_cost = max(fitted)
            self._fitted_since = 0
            logger.warning(
                "too little memory for a batch: they are smaller for now",
                batcher=self._name,
                did_not_fit=too_much,
                max_cost=self._queue.max_cost,
            )
        elif self._queue.max_cost < self._full_cost and not ran.did_not_fit:
            self._fitted_since += 1
            if self._fitted_since >= BATCHES_BEFORE_MORE:
                self._fitted_since = 0
                self._queue.max_cost = min(2 * self._queue.max_cost, self._full_cost)
                logger.info("larger batches are tried again", batcher=self._name, max_cost=self._queue.max_cost)

    def _cost_of(self, costs: Sequence[int], part: range) -> int:
        return self._queue.cost_of(costs[part.start : part.stop])


def at_once(run: Callable[[Sequence[Item]], Sequence[Result | Exception]]) -> Start[Item, Result]:
    """Return for ``start`` what is done when it returns."""

    def start(items: Sequence[Item]) -> Wait[Result]:
        results = run(items)
        return lambda: results

    return start


def _one_result_per_item(start: Start[Item, Result]) -> Start[Item, Result]:
    def checked(items: Sequence[Item]) -> Wait[Result]:
        with panics_as_errors():
            wait = start(items)

        def results() -> Sequence[Result | Exception]:
            with panics_as_errors():
                results = wait()
            if len(results) != len(items):
                raise RuntimeError(f"{len(items)} items gave {len(results)} results")
            return results

        return results

    return checked
