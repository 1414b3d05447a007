"""Searches side by side: so many calls to the store under way, who shares one, and who goes alone.

Threads and not Chroma's asynchronous client: that one takes 1.2 to 1.4 times the processor time for the same call, on
the loop; an embedded store has none; and a thread that is left behind ends a call in time whatever it waits for. It is
long: a slot and what gives it work are always read together.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from worker.batching.batcher import BatchReport, ClosedError
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Job, JobQueue, Limits, marks_of
from worker.domain import Query, Recalled
from worker.errors import ExpiredError, TransientError
from worker.recall.chroma_connection import LEAVE_SLACK_S, StoreLostError, no_answer
from worker.recall.chroma_search import Found, search_key
from worker.recall.embedder import Vector, Vectors
from worker.settings import RecallSettings


class Question(NamedTuple):
    """A query, and what it is searched for with."""

    query: Query
    vector: Vector


Waiting = Job[Question, Recalled]
"""One question whose caller waits."""


class Search(Protocol):
    """What a slot calls, on its thread: see ``ChromaSearch``."""

    def find(
        self, queries: Sequence[Query], vectors: Vectors, *, within_s: float, after_loss: bool = False
    ) -> Sequence[Found]:
        """Return each query's candidates, or the error that is its own."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


NewSearch = Callable[[], Search]


class Slot:
    """Room for one call: a thread and the search it makes, replaced together when a call does not end in its time."""

    def __init__(self, new_search: NewSearch, settings: RecallSettings, name: str) -> None:
        self._new_search = new_search
        self._settings = settings
        self._name = name
        self._search = new_search()
        self._thread = SingleThreadExecutor(name)

    @property
    def name(self) -> str:
        """The thread's name."""
        return self._name

    @property
    def busy_since_s(self) -> float | None:
        """When the call that runs now began, on the monotonic clock; None between calls. Any thread may read it."""
        return self._thread.busy_since_s

    async def find(self, batch: Sequence[Question], *, within_s: float, after_loss: bool) -> Sequence[Found]:
        """Return what was found for each, in bounded time but for an embedded store, which can't be left behind."""
        search = self._search  # The one whose connection is this thread's, should both be replaced before it begins.

        def find() -> Sequence[Found]:
            queries, vectors = zip(*batch, strict=True)
            return search.find(queries, np.stack(vectors), within_s=within_s, after_loss=after_loss)

        call = asyncio.wrap_future(self._thread.submit(find))
        can_be_left = self._settings.mode == "server"
        ended, _ = await asyncio.wait([call], timeout=within_s + LEAVE_SLACK_S if can_be_left else None)
        if not ended:
            self._leave_behind()
            return [no_answer(self._settings)] * len(batch)
        try:
            return call.result()
        except Exception as error:  # noqa: BLE001 - native code that panicked: no query's own error
            return [TransientError(f"Recall failed: {type(error).__name__}: {error}")] * len(batch)

    async def close(self, timeout_s: float) -> None:
        """Let the call under way end and the connection go, in bounded time; one that hangs is left behind."""
        await self._thread.aclose(timeout_s)
        self._search.close()

    def _leave_behind(self) -> None:
        # The thread ends with its call, and the connection is its alone until then.
        self._thread.submit(self._search.close)
        self._thread.close()
        self._search, self._thread = self._new_search(), SingleThreadExecutor(self._name)


class _Lane:
    """Slots, and the questions that wait for one."""

    def __init__(self, new_slot: Callable[[str], Slot], name: str, settings: RecallSettings) -> None:
        self.slots = [new_slot(f"{name}-{number}") for number in range(1, settings.concurrency + 1)]
        self.free = list(reversed(self.slots))
        self.queue = _new_queue(settings)
        self.searched_for = 0
        """Questions of the calls under way."""

    def share(self) -> int:
        """Return how many questions the next call takes, so that all slots have as many: even calls end together."""
        return math.ceil((len(self.queue) + self.searched_for) / len(self.slots))


class Searches:
    """Gives each question's search a slot. Built and used on the loop's thread; ``close`` once.

    Queries with a filter have ``recall.concurrency`` slots of their own: what a filter costs the store, others'
    questions need not wait for. A query that the store may have died of is searched for with nothing else under way,
    so that a second death is no neighbour's. Who is next: see ``JobQueue``; those like it go along (``search_key``).
    """

    def __init__(
        self, new_search: NewSearch, settings: RecallSettings, *, on_batch: Callable[[BatchReport], None]
    ) -> None:
        """``new_search`` is called once a slot, and again when a thread is left behind: nobody else may use those."""
        self._settings = settings
        self._on_batch = on_batch
        new_slot = partial(Slot, new_search, settings)
        self._plain = _Lane(new_slot, "recall", settings)
        self._filtered = _Lane(new_slot, "recall-filtered", settings)
        self._suspects = _new_queue(settings)
        self._one_alone = False
        """A suspect is being searched for."""
        self._lost = False
        """The store broke off in the middle of a call, and has answered none that began since."""
        self._served = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._open: set[Waiting] = set()
        self._ended: str | None = None
        self._dispatching = False
        self._loop = asyncio.get_running_loop()

    @property
    def slots(self) -> Sequence[Slot]:
        """On whose threads a query may hang."""
        return (*self._plain.slots, *self._filtered.slots)

    async def find(self, query: Query, vector: Vector, *, deadline_s: float | None, alone: bool = False) -> Recalled:
        """Return the query's candidates; raise its error, ExpiredError, or ClosedError once nothing is searched.

        ``deadline_s`` is on the loop's clock: the caller learns then that it is too late, and no call is made for the
        query after it. ``alone``: with nothing else under way. Cancelling takes it out of the queue.
        """
        if self._ended is not None:
            raise ClosedError(self._ended)
        waiting: Waiting = Job(
            [Question(query, vector)],
            [1],
            self._served + 1,
            self._loop.time(),
            deadline_s,
            self._loop.create_future(),
            search_key(query),
        )
        queue = self._suspects if alone else self._lane(query).queue
        queue.add(waiting)
        self._open.add(waiting)
        self._dispatch_soon()
        expiry = None if deadline_s is None else self._loop.call_at(deadline_s, _expire, waiting)
        try:
            [candidates] = await waiting.done
        finally:
            if expiry is not None:
                expiry.cancel()
            self._open.discard(waiting)
            if waiting.waiting:
                queue.remove(waiting)
                # Others may have waited for it to have its turn.
                self._dispatch_soon()
        return candidates

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
        self._drop_expired(self._suspects)
        if self._suspects:
            if not self._calls:
                self._one_alone = True
                [(suspect, _)] = self._suspects.take(1)
                self._start(self._lane(suspect.items[0].query), [suspect])
            return
        for lane in (self._plain, self._filtered):
            self._drop_expired(lane.queue)
            while lane.free and lane.queue:
                self._start(lane, [waiting for waiting, _ in lane.queue.take(lane.share())])

    def _drop_expired(self, queue: JobQueue[Question, Recalled]) -> None:
        # Their timers may come later in this turn of the loop.
        for waiting in queue.expired(self._loop.time()):
            _expire(waiting)
            queue.remove(waiting)

    def _start(self, lane: _Lane, batch: list[Waiting]) -> None:
        lane.searched_for += len(batch)
        call = self._loop.create_task(self._see_through(lane, lane.free.pop(), batch), name="recall-search")
        self._calls.add(call)
        call.add_done_callback(self._call_ended)

    async def _see_through(self, lane: _Lane, slot: Slot, batch: list[Waiting]) -> None:
        """Have a slot search, tell the callers, report."""
        begun_s, after_loss, size = self._loop.time(), self._lost, len(batch)
        questions = [waiting.items[0] for waiting in batch]
        found = await slot.find(questions, within_s=self._time_for(batch, begun_s), after_loss=after_loss)
        lane.free.append(slot)
        lane.searched_for -= size
        self._served += size
        if any(isinstance(one, StoreLostError) for one in found):
            self._lost = True
        elif after_loss and not isinstance(found[0], Exception):
            self._lost = False
        for waiting, one in zip(batch, found, strict=True):
            waiting.settle(one if isinstance(one, Exception) else [one])
        waited_s = begun_s - min(waiting.arrived_s for waiting in batch)
        seconds = self._loop.time() - begun_s
        marks = marks_of(batch)
        self._on_batch(BatchReport(size, size, size, seconds, waited_s, self._settings.max_batch, marks))

    def _time_for(self, batch: Sequence[Waiting], now_s: float) -> float:
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


def _new_queue(settings: RecallSettings) -> JobQueue[Question, Recalled]:
    return JobQueue(Limits(settings.max_batch, settings.max_batch, max_wait_s=0.0))


def _expire(waiting: Waiting) -> None:
    waiting.settle(ExpiredError("the deadline passed while the query waited for its search"))
