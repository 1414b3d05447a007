"""The recall stage: concurrent queries embedded and searched together, and an outage of the store outlasted."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from worker.batching.batcher import BatchReport, ClosedError, MicroBatcher
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Limits
from worker.domain import Candidate, Query
from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.recall.chroma_collections import DefaultCollectionMissingError
from worker.recall.chroma_connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, StoreLostError
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import EMBED_TIMEOUT_S
from worker.resilience.retry import OutageRetry, RetryPolicy, on_loop_clock
from worker.settings import RecallSettings

logger = structlog.get_logger()

DEATHS = 2
"""Of the store, while it searched for one query: a chance the first time, then that query's doing."""


RECHECK_S = 5.0
"""Between two looks for a default collection that is missing, so that `/ready` changes without a query too."""


class BatchedRecall:
    """Implements ``Recall``. Built and used on the loop's thread; ``start`` before the first query, ``close`` once.

    Queries with a filter are searched on a thread of their own: what a filter costs the store, others' questions need
    not wait for.
    """

    def __init__(
        self,
        new_search: Callable[[], ChromaSearch],
        settings: RecallSettings,
        *,
        on_batch: Callable[[BatchReport], None],
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        """Make two searches, one a thread: nobody else may use or close them."""
        self._unix_time_s = unix_time_s
        # Here and not on the recall threads, where a pause of one query would be everybody's.
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=settings.attempts)
        self._outage = OutageRetry("vector store", patience_s=settings.patience_s, unix_time_s=unix_time_s)
        self._plain = _Lane(new_search(), settings, "recall", on_batch)
        self._filtered = _Lane(new_search(), settings, "recall-filtered", on_batch)
        self._probe = Query(id="probe", text="warm-up", collection=settings.collection, top_k=1, top_n=1)
        self._missing: str | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def why_not_ready(self) -> str | None:
        """Say that the default collection does not exist, if it was so when it was last looked for."""
        return self._missing

    @property
    def threads(self) -> Sequence[SingleThreadExecutor]:
        """The threads on which a query may hang."""
        return (self._plain.thread, self._filtered.thread)

    async def start(self) -> None:
        """Reach the store and warm up, in bounded time; raises TransientError or FatalError as ``check`` does."""
        missing = await asyncio.to_thread(self._plain.search.check)
        if missing is not None:
            self._watch(missing)

    async def recall(self, query: Query) -> Sequence[Candidate]:
        """Return the query's candidates; see ``Recall``. A store that is away is waited for: see ``OutageRetry``.

        Waiting behind other batches takes as long as it takes, but for the query's deadline (ExpiredError);
        FatalError if none of them ends any more. PoisonError if the store died while it searched for this query,
        ``DEATHS`` times.
        """
        lost = 0

        async def recall_once() -> Sequence[Candidate]:
            nonlocal lost
            try:
                return await self._recall_once(query)
            except StoreLostError as error:
                lost += 1
                if lost < DEATHS:
                    raise
                logger.warning("the vector store was lost again", query_id=query.id, times=lost, reason=str(error))
                raise PoisonError(
                    "store_crashed", f"The vector store broke off {lost} times while it searched for this query."
                ) from error

        def left_s() -> float:
            return math.inf if query.deadline_s is None else query.deadline_s - self._unix_time_s()

        return await self._outage.call(query, partial(self._policy.run, recall_once, left_s=left_s))

    async def close(self) -> None:
        """Fail what waits, let the running batches end and the connections go, in bounded time."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(self._plain.close(), self._filtered.close())

    async def _recall_once(self, query: Query) -> Sequence[Candidate]:
        lane = self._filtered if query.where else self._plain
        try:
            candidates = await lane.candidates(query, on_loop_clock(query, unix_now_s=self._unix_time_s()))
        except DefaultCollectionMissingError as error:
            self._watch(str(error))
            raise
        except WorkerError:
            raise
        except ClosedError as error:
            # Nothing will be searched in this process any more; every query from here on would be dead-lettered.
            raise FatalError(f"the recall stage has ended: {error}") from error
        except Exception as error:
            raise TransientError(f"Recall failed: {type(error).__name__}: {error}") from error
        if query.collection == self._probe.collection:
            self._missing = None
        return candidates

    def _watch(self, missing: str) -> None:
        self._missing = missing
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_for_default(), name="recall-default-collection")

    async def _watch_for_default(self) -> None:
        while self._missing is not None:
            await asyncio.sleep(RECHECK_S)
            # What else may be wrong with it, the next query tells by its own error.
            with suppress(WorkerError):
                await self._recall_once(self._probe)


class _Lane:
    """A thread that searches, and the queries that wait for it."""

    def __init__(
        self, search: ChromaSearch, settings: RecallSettings, name: str, on_batch: Callable[[BatchReport], None]
    ) -> None:
        self.search = search
        self._on_batch = on_batch
        self._batches_ended = 0
        # Embedding ends after its time, a call after `timeout_s`; none that ends in twice that is a thread that hangs.
        self._close_timeout_s = 2 * settings.timeout_s
        self._patience_s = EMBED_TIMEOUT_S + 2 * settings.timeout_s
        self._batcher: MicroBatcher[Query, Sequence[Candidate]] = MicroBatcher(
            search.search,
            name=name,
            limits=Limits(settings.max_batch, settings.max_batch, settings.max_wait_ms / 1000),
            cost=lambda _: 1,
            on_batch=self._batch_ended,
        )

    @property
    def thread(self) -> SingleThreadExecutor:
        """The thread that searches."""
        return self._batcher.executor

    async def candidates(self, query: Query, deadline_s: float | None) -> Sequence[Candidate]:
        """Return what was found; raises as ``MicroBatcher.submit``, and FatalError if the thread hangs."""
        submitted = asyncio.ensure_future(self._batcher.submit([query], deadline_s=deadline_s))
        try:
            await self._settled(submitted)
            [candidates] = submitted.result()
        finally:
            submitted.cancel()
        return candidates

    async def close(self) -> None:
        """Fail what waits, let the running batch end and the connection go, in bounded time."""
        await self._batcher.close(timeout_s=self._close_timeout_s)
        self.search.close()

    async def _settled(self, submitted: asyncio.Future[list[Sequence[Candidate]]]) -> None:
        while True:
            ended = self._ended
            done, _ = await asyncio.wait({submitted}, timeout=self._patience_s)
            if done:
                return
            if self._ended == ended:
                # No query's fault, and no later try gets past that thread.
                raise FatalError(f"Recall has ended no call for {self._patience_s:g} s: its thread hangs.")

    @property
    def _ended(self) -> int:
        return self._batches_ended + self.search.calls_ended

    def _batch_ended(self, report: BatchReport) -> None:
        self._batches_ended += 1
        self._on_batch(report)
