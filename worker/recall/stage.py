"""The recall stage: concurrent queries embedded and searched together, and an outage of the store outlasted."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from worker.batching.batcher import BatchReport, ClosedError, MicroBatcher
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Limits
from worker.domain import Candidate, Query
from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.recall.chroma_connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, StoreLostError
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import EMBED_TIMEOUT_S
from worker.resilience.retry import OutageRetry, RetryPolicy, on_loop_clock
from worker.settings import RecallSettings

DEATHS = 2
"""Of the store, while it searched for one query: a chance the first time, then that query's doing."""


class BatchedRecall:
    """Implements ``Recall``. Built and used on the loop's thread; ``start`` before the first query, ``close`` once."""

    def __init__(
        self,
        search: ChromaSearch,
        settings: RecallSettings,
        *,
        on_batch: Callable[[BatchReport], None],
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        """Take over ``search``: nobody else may use or close it."""
        self._search = search
        self._on_batch = on_batch
        self._unix_time_s = unix_time_s
        self._batches_ended = 0
        # Here and not on the recall thread, where a pause of one query would be everybody's.
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=settings.attempts)
        self._outage = OutageRetry("vector store", patience_s=settings.patience_s, unix_time_s=unix_time_s)
        # Embedding ends after its time, a call after `timeout_s`; none that ends in twice that is a thread that hangs.
        self._close_timeout_s = 2 * settings.timeout_s
        self._patience_s = EMBED_TIMEOUT_S + 2 * settings.timeout_s
        self._batcher: MicroBatcher[Query, Sequence[Candidate]] = MicroBatcher(
            search.search,
            name="recall",
            limits=Limits(settings.max_batch, settings.max_batch, settings.max_wait_ms / 1000),
            cost=lambda _: 1,
            on_batch=self._batch_ended,
        )

    async def start(self) -> None:
        """Reach the store and warm up, in bounded time; raises TransientError or FatalError as ``check`` does."""
        await asyncio.to_thread(self._search.check)

    async def recall(self, query: Query) -> Sequence[Candidate]:
        """Return the query's candidates; see ``Recall``. A store that is away is waited for: see ``OutageRetry``.

        Waiting behind other batches takes as long as it takes, but for the query's deadline (ExpiredError);
        FatalError if none of them ends any more.
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
                raise PoisonError(
                    "store_crashed",
                    f"The vector store broke off {lost} times while it searched for this query: {error}",
                ) from error

        return await self._outage.call(query, partial(self._policy.run, recall_once))

    async def _recall_once(self, query: Query) -> Sequence[Candidate]:
        deadline_s = on_loop_clock(query, unix_now_s=self._unix_time_s())
        submitted = asyncio.ensure_future(self._batcher.submit([query], deadline_s=deadline_s))
        try:
            await self._settled(submitted)
            [candidates] = submitted.result()
        except WorkerError:
            raise
        except ClosedError as error:
            # Nothing will be searched in this process any more; every query from here on would be dead-lettered.
            raise FatalError(f"the recall stage has ended: {error}") from error
        except Exception as error:
            raise TransientError(f"Recall failed: {type(error).__name__}: {error}") from error
        finally:
            submitted.cancel()
        return candidates

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
    def threads(self) -> Sequence[SingleThreadExecutor]:
        """The threads on which a query may hang."""
        return (self._batcher.executor,)

    async def close(self) -> None:
        """Fail what waits, let the running batch end and the connection go, in bounded time."""
        await self._batcher.close(timeout_s=self._close_timeout_s)
        self._search.close()

    @property
    def _ended(self) -> int:
        return self._batches_ended + self._search.calls_ended

    def _batch_ended(self, report: BatchReport) -> None:
        self._batches_ended += 1
        self._on_batch(report)
