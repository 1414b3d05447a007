"""Micro-batches across jobs: many small requests, one call.

A *job* is a list of items that one caller waits for. A *batch* is a list of items of like cost, from any jobs, given to
one function on a thread of its own. Nothing here knows what an item is.

When the function is free, a batch leaves as soon as the first waiting item has waited ``max_wait_s``, or at once if a
budget is full; items that arrived while the function was busy have done their waiting. All state belongs to the loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic

import structlog

from worker.batching.bisect import BatchOutcome, bisect_failing
from worker.batching.executor import SingleThreadExecutor, panics_as_errors
from worker.batching.queue import ItemRef, Job, JobQueue, Limits
from worker.domain import Item, Result
from worker.errors import ExpiredError

logger = structlog.get_logger()


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


class MicroBatcher(Generic[Item, Result]):
    """Batches the items of concurrent jobs. Built and used on the loop's thread.

    ``run`` gets a batch's items and returns one result (or one exception) per item, in order. It is called on one
    thread, one batch at a time: on ``executor``, which stays its owner's, or on one of the batcher's own. If it raises
    a WorkerError, that is what became of each item; at any other the batch is halved until the items that break it are
    alone. Where it raises what ``out_of_memory`` tells to be a lack of memory and a part fits, the limit of the cost is
    lowered to what fitted. Nobody says when the memory is free again: after ``BATCHES_BEFORE_MORE`` batches that fitted
    the limit doubles, until it is what it was.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        name: str,
        limits: Limits,
        cost: Callable[[Item], int],
        on_batch: Callable[[BatchReport], None],
        out_of_memory: Callable[[Exception], bool] = lambda _: False,
        executor: SingleThreadExecutor | None = None,
    ) -> None:
        self._run = _one_result_per_item(run)
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
        self._arrived = asyncio.Event()
        self._executor = executor or SingleThreadExecutor(name)
        self._owns_executor = executor is None
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
        costs = [self._cost(item) for item in items]
        arrived_s = self._loop.time()
        job = Job(items, costs, self._served + sum(costs), arrived_s, deadline_s, self._loop.create_future())
        self._open.add(job)
        self._queue.add(job)
        self._arrived.set()
        expiry = None if deadline_s is None else self._loop.call_at(deadline_s, self._expire, job)
        try:
            return await job.done
        finally:
            if expiry is not None:
                expiry.cancel()
            self._open.discard(job)
            self._queue.remove(job)

    @property
    def executor(self) -> SingleThreadExecutor:
        """The thread the batches run on."""
        return self._executor

    async def close(self, *, timeout_s: float) -> None:
        """Fail what waits, let the running batch end, join its own thread; a hung function is left behind in time."""
        self._serving.cancel()
        if self._owns_executor:
            await self._executor.aclose(timeout_s)

    def _fail_open_jobs(self, serving: "asyncio.Task[None]") -> None:
        error = None if serving.cancelled() else serving.exception()
        for job in self._open:
            job.settle(ClosedError(f"the batcher ended: {error or 'closed'}"))

    async def _serve(self) -> None:
        while True:
            batch = await self._next_batch()
            items = [job.items[index] for job, index in batch]
            waited_s = self._loop.time() - min(job.arrived_s for job, _ in batch)
            ran, seconds = await self._executor.run(partial(self._run_batch, items))
            for (job, index), result in zip(batch, ran.results, strict=True):
                if isinstance(result, Exception):
                    job.settle(result)
                    self._queue.remove(job)
                else:
                    job.results[index] = result
                    if len(job.results) == len(job.items):
                        job.settle([job.results[i] for i in range(len(job.items))])
            costs = [job.costs[index] for job, index in batch]
            self._served += sum(costs)
            self._heed(ran, costs)
            padded = self._queue.cost_of(costs)
            self._on_batch(BatchReport(len(batch), sum(costs), padded, seconds, waited_s, self._queue.max_cost))

    async def _next_batch(self) -> list[ItemRef[Item, Result]]:
        while True:
            self._arrived.clear()
            # The timers of deadlines that have just passed may come after this in the same turn of the loop.
            for job in self._queue.expired(self._loop.time()):
                self._expire(job)
            left_s = None
            if self._queue:
                left_s = self._queue.leaves_at_s() - self._loop.time()
                window = self._queue.window()
                if left_s <= 0 or self._queue.fills_a_batch(window):
                    return self._queue.take(window)
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()

    def _expire(self, job: Job[Item, Result]) -> None:
        job.settle(ExpiredError(f"the deadline passed in {self._name}, with {len(job.waiting)} items in the queue"))
        self._queue.remove(job)

    def _run_batch(self, items: Sequence[Item]) -> tuple[BatchOutcome[Result], float]:
        begun_s = time.monotonic()
        try:
            ran = BatchOutcome(self._run(items))
        except Exception as error:  # noqa: BLE001 - handed to the callers, item by item
            ran = bisect_failing(self._run, items, error, out_of_memory=self._out_of_memory)
        return ran, time.monotonic() - begun_s

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


def _one_result_per_item(
    run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
) -> Callable[[Sequence[Item]], Sequence[Result | Exception]]:
    def checked(items: Sequence[Item]) -> Sequence[Result | Exception]:
        with panics_as_errors():
            results = run(items)
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items gave {len(results)} results")
        return results

    return checked
