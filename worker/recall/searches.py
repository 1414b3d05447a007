"""Searches side by side: so many calls to the store under way, who shares one, and who goes alone."""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial

from worker.batching.batcher import BatchReport, ClosedError
from worker.domain import Candidate, Query
from worker.recall.chroma_connection import StoreLostError
from worker.recall.chroma_search import search_key
from worker.recall.embedder import Vector
from worker.recall.search_queue import SearchQueue, WaitingQuery, expired
from worker.recall.search_slot import NewSearch, Slot
from worker.settings import RecallSettings


class _Lane:
    """Slots, and the queries that wait for one."""

    def __init__(self, new_slot: Callable[[str], Slot], name: str, concurrency: int) -> None:
        self.slots = [new_slot(f"{name}-{number}") for number in range(1, concurrency + 1)]
        self.free = list(reversed(self.slots))
        self.queue = SearchQueue()
        self.searched_for = 0
        """Queries of the calls under way."""

    def share(self) -> int:
        """Return how many queries the next call takes, so that all slots have as many: even calls end together."""
        return math.ceil((len(self.queue) + self.searched_for) / len(self.slots))


class Searches:
    """Gives each query's search a slot. Built and used on the loop's thread; ``close`` once.

    Queries with a filter have ``recall.concurrency`` slots of their own: what a filter costs the store, others'
    questions need not wait for. A query that the store may have died of is searched for with nothing else under way,
    so that a second death is no neighbour's.
    """

    def __init__(
        self, new_search: NewSearch, settings: RecallSettings, *, on_batch: Callable[[BatchReport], None]
    ) -> None:
        """``new_search`` is called once a slot, and again when a thread is left behind: nobody else may use those."""
        self._settings = settings
        self._on_batch = on_batch
        new_slot = partial(Slot, new_search, settings)
        self._plain = _Lane(new_slot, "recall", settings.concurrency)
        self._filtered = _Lane(new_slot, "recall-filtered", settings.concurrency)
        self._suspects = SearchQueue()
        self._one_alone = False
        """A suspect is being searched for."""
        self._lost = False
        """The store broke off in the middle of a call, and has answered none that began since."""
        self._calls: set[asyncio.Task[None]] = set()
        self._open: set[WaitingQuery] = set()
        self._ended: str | None = None
        self._dispatching = False
        self._loop = asyncio.get_running_loop()

    @property
    def slots(self) -> Sequence[Slot]:
        """On whose threads a query may hang."""
        return (*self._plain.slots, *self._filtered.slots)

    async def find(
        self, query: Query, vector: Vector, *, deadline_s: float | None, alone: bool = False
    ) -> Sequence[Candidate]:
        """Return the query's candidates; raise its error, ExpiredError, or ClosedError once nothing is searched.

        ``deadline_s`` is on the loop's clock: the caller learns then that it is too late, and no call is made for the
        query after it. ``alone``: with nothing else under way. Cancelling takes it out of the queue.
        """
        if self._ended is not None:
            raise ClosedError(self._ended)
        waiting = WaitingQuery(
            query, vector, search_key(query), self._loop.time(), deadline_s, self._loop.create_future()
        )
        queue = self._suspects if alone else self._lane(query).queue
        queue.add(waiting)
        self._open.add(waiting)
        self._dispatch_soon()
        expiry = None if deadline_s is None else self._loop.call_at(deadline_s, lambda: waiting.settle(expired()))
        try:
            return await waiting.done
        finally:
            if expiry is not None:
                expiry.cancel()
            self._open.discard(waiting)
            if queue.remove(waiting):
                # Others may have waited for it to have its turn.
                self._dispatch_soon()

    async def close(self, *, timeout_s: float) -> None:
        """Fail what waits, let the calls under way end and the connections go, in bounded time."""
        self._end("closed")
        await asyncio.gather(*(slot.close(timeout_s) for slot in self.slots))
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _lane(self, query: Query) -> _Lane:
        return self._filtered if query.where else self._plain

    def _dispatch_soon(self) -> None:
        # Not at once: what one batch of the embedder brings comes in the same turn of the loop, and goes together.
        if not self._dispatching:
            self._dispatching = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        if self._ended is not None or self._one_alone:
            return
        now_s = self._loop.time()
        self._suspects.expire(now_s)
        if self._suspects:
            if not self._calls:
                [suspect] = self._suspects.take(1)
                self._one_alone = True
                self._start(self._lane(suspect.query), [suspect])
            return
        for lane in (self._plain, self._filtered):
            lane.queue.expire(now_s)
            while lane.free and lane.queue:
                self._start(lane, lane.queue.take(min(lane.share(), self._settings.max_batch)))

    def _start(self, lane: _Lane, batch: list[WaitingQuery]) -> None:
        lane.searched_for += len(batch)
        call = self._loop.create_task(self._see_through(lane, lane.free.pop(), batch), name="recall-search")
        self._calls.add(call)
        call.add_done_callback(self._call_ended)

    async def _see_through(self, lane: _Lane, slot: Slot, batch: list[WaitingQuery]) -> None:
        """Have a slot search, tell the callers, report."""
        begun_s, after_loss = self._loop.time(), self._lost
        found = await slot.find(batch, within_s=self._time_for(batch, begun_s), after_loss=after_loss)
        lane.free.append(slot)
        lane.searched_for -= len(batch)
        if any(isinstance(one, StoreLostError) for one in found):
            self._lost = True
        elif after_loss and not isinstance(found[0], Exception):
            self._lost = False
        for waiting, one in zip(batch, found, strict=True):
            waiting.settle(one)
        size = len(batch)
        waited_s = begun_s - min(waiting.arrived_s for waiting in batch)
        seconds = self._loop.time() - begun_s
        self._on_batch(BatchReport(size, size, size, seconds, waited_s, self._settings.max_batch))

    def _time_for(self, batch: Sequence[WaitingQuery], now_s: float) -> float:
        """Return the call's time in seconds: nobody waits for it after the last of its queries' deadlines."""
        last_s = max(math.inf if waiting.deadline_s is None else waiting.deadline_s for waiting in batch)
        return max(0.0, min(self._settings.timeout_s, last_s - now_s))

    def _call_ended(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        # A suspect is alone: what ends while one is searched for is its call.
        self._one_alone = False
        if not call.cancelled() and (error := call.exception()) is not None:
            self._end(str(error))
        self._dispatch_soon()

    def _end(self, why: str) -> None:
        self._ended = why
        for waiting in self._open:
            waiting.settle(ClosedError(f"recall searches no more: {why}"))
