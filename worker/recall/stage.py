"""The recall stage: questions are embedded, then searched for, side by side; an outage of the store is outlasted."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from worker.batching.batcher import BatchReport, ClosedError, MicroBatcher, at_once
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Limits
from worker.domain import Query, Recalled
from worker.errors import ExpiredError, FatalError, PoisonError, TransientError, WorkerError
from worker.recall.chroma_collections import DefaultCollectionMissingError
from worker.recall.chroma_connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, StoreFailedError, StoreLostError
from worker.recall.embedder import Embedder, Vector
from worker.recall.searches import NewSearch, Searches, Slot
from worker.resilience.retry import OutageRetry, RetryPolicy, on_loop_clock
from worker.settings import RecallSettings

logger = structlog.get_logger()

DEATHS = 2
"""Of the store, while it searched for one query: a chance the first time, then that query's doing."""

RECHECK_S = 5.0
"""Between two looks for a default collection that is missing, so that `/ready` changes without a query too."""


class BatchedRecall:
    """Implements ``Recall``. Built and used on the loop's thread; ``start`` before the first query, ``close`` once.

    The questions that wait are embedded in one micro-batch, on ``executor`` or on a thread of the stage's own, while
    those embedded before are searched for.
    """

    def __init__(
        self,
        embedder: Embedder,
        new_search: NewSearch,
        settings: RecallSettings,
        *,
        on_embedded: Callable[[BatchReport], None] = lambda _: None,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
        on_failure: Callable[[str], None] = lambda _code: None,
        executor: SingleThreadExecutor | None = None,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        """``on_embedded`` and ``on_batch`` are told of each batch of questions, and of each call to the store.

        ``on_failure`` is told the code of each try of a query that failed, for what is not the query's fault.
        """
        self._on_failure = on_failure
        self._timeout_s = settings.timeout_s
        self._unix_time_s = unix_time_s
        # Here and not on the threads that search, where a pause of one query would be everybody's.
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=settings.attempts)
        self._outage = OutageRetry("vector store", patience_s=settings.patience_s, unix_time_s=unix_time_s)
        self._embedding: MicroBatcher[str, Vector] = MicroBatcher(
            at_once(lambda texts: list(embedder.embed_queries(texts))),
            name="embed",
            limits=Limits(settings.max_batch, settings.max_batch, settings.max_wait_ms / 1000),
            cost=lambda _: 1,
            on_batch=on_embedded,
            executor=executor,
        )
        self._searches = Searches(new_search, settings, on_batch=on_batch)
        self._probe = Query(id="probe", text="warm-up", collection=settings.collection, top_k=1, top_n=1)
        self._missing: str | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def why_not_ready(self) -> str | None:
        """Say that the default collection does not exist, if it was so when it was last looked for."""
        return self._missing

    @property
    def threads(self) -> Sequence[SingleThreadExecutor | Slot]:
        """The threads on which a query may hang: a call that does not end on one of them is fatal to the process."""
        return (*self._embedding.threads, *self._searches.slots)

    async def start(self) -> None:
        """Reach the store and search the default collection once: the first search of a cold one is slow.

        One that does not exist (yet) is waited for by the queries. Raises TransientError (the store can't be reached
        within `attempts` tries) or FatalError (it can't be used).
        """

        async def look() -> None:
            with suppress(DefaultCollectionMissingError):
                await self._recall_once(self._probe)

        await self._policy.run(look)

    async def recall(self, query: Query) -> Recalled:
        """Return the query's candidates; see ``Recall``. A store that is away is waited for: see ``OutageRetry``.

        Waiting behind others takes as long as it takes, but for the query's deadline (ExpiredError). PoisonError if the
        store died while it searched for this query, ``DEATHS`` times. FatalError once the stage has ended.
        """
        lost = 0

        async def recall_once() -> Recalled:
            nonlocal lost
            try:
                return await self._recall_once(query, alone=lost > 0)
            except ExpiredError:
                raise
            except TransientError as error:
                self._on_failure(store_error_code(error))
                if not isinstance(error, StoreLostError):
                    raise
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
        """Fail what waits, let what is under way end and the connections go, in bounded time."""
        if self._watching is not None:
            self._watching.cancel()
        # A call ends after its time; what has not ended in twice that hangs.
        await asyncio.gather(
            self._embedding.close(timeout_s=2 * self._timeout_s), self._searches.close(timeout_s=2 * self._timeout_s)
        )

    async def _recall_once(self, query: Query, *, alone: bool = False) -> Recalled:
        deadline_s = on_loop_clock(query, unix_now_s=self._unix_time_s())
        try:
            [vector] = await self._embedding.submit([query.text], deadline_s=deadline_s)
            candidates = await self._searches.find(query, vector, deadline_s=deadline_s, alone=alone)
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
        if self._missing is None:
            logger.warning("default collection does not exist yet", reason=missing)
        self._missing = missing
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_for_default(), name="recall-default-collection")

    async def _watch_for_default(self) -> None:
        while self._missing is not None:
            await asyncio.sleep(RECHECK_S)
            # What else may be wrong with it, the next query tells by its own error.
            with suppress(WorkerError):
                await self._recall_once(self._probe)


def store_error_code(error: TransientError) -> str:
    """Return the code under which a failure of the vector store is counted."""
    match error:
        case StoreLostError():
            return "store_lost"
        case StoreFailedError():
            return "store_failed"
        case DefaultCollectionMissingError():
            return "collection_missing"
        case _:
            return "store_unavailable"
