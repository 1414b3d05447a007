"""Changes of documents into the collection: of each document one at a time, many documents together.

All state belongs to the loop; one thread cuts, embeds and writes.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

import structlog

from worker.batching.batcher import BatchReport, ClosedError, MicroBatcher, at_once
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Limits
from worker.documents.stream.changes import Change, Outcome
from worker.documents.stream.store import StoreRefusedError
from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.recall.chroma_connection import StoreFailedError
from worker.recall.stage import store_error_code
from worker.resilience.retry import OUTAGE_FIRST_PAUSE_S, OUTAGE_LONGEST_PAUSE_S, RetryPolicy
from worker.settings import IndexSettings

logger = structlog.get_logger()

Apply = Callable[[Sequence[Change]], Sequence[Outcome | Exception]]


class Indexing:
    """Takes changes, concurrently. Built and used on the loop's thread; ``close`` once."""

    def __init__(
        self,
        apply: Apply,
        settings: IndexSettings,
        executor: SingleThreadExecutor,
        *,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
        on_failure: Callable[[str], None] = lambda _code: None,
    ) -> None:
        """``apply`` runs on ``executor``, as ``DocumentCollections.apply`` does.

        ``on_failure`` is told the code of each try of a change that failed and was not to blame.
        """
        self._executor = executor
        self._on_failure = on_failure
        self._batcher: MicroBatcher[Change, Outcome] = MicroBatcher(
            at_once(apply),
            name="index",
            limits=Limits(settings.max_batch, settings.max_batch_chars, max_wait_s=0.0),
            cost=lambda change: change.chars,
            on_batch=on_batch,
            executor=executor,
        )
        self._policy = RetryPolicy(OUTAGE_FIRST_PAUSE_S, OUTAGE_LONGEST_PAUSE_S)
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of the documents in work: a lane lives as long as somebody is in it."""
        self._why_waiting: str | None = None

    @property
    def why_waiting(self) -> str | None:
        """Why nothing can be written now, if so."""
        return self._why_waiting

    async def apply(self, change: Change) -> Outcome:
        """Bring a change in; return what became of it, once the store has said so.

        Changes of one document are made in the order of the calls. A store that is away is waited for without end:
        given up, a change would leave the index wrong for as long as its document does not change again. Raises
        PoisonError (the store or the model never takes this document) or FatalError. Cancelled, it writes nothing any
        more, and ends when a write under way has.
        """
        lane = self._lanes.setdefault(change.id, asyncio.Lock())
        async with lane:
            try:
                return await self._policy.run(lambda: self._apply_once(change), on_retry=self._note_outage)
            except asyncio.CancelledError:
                change.abandoned = True
                if change.writing:
                    # A call behind the one under way: when it is done, that one is.
                    with suppress(RuntimeError):
                        await self._executor.run(lambda: None)
                raise

    async def close(self, *, timeout_s: float) -> None:
        """Fail what waits; what is under way ends with the executor, which is its owner's."""
        await self._batcher.close(timeout_s=timeout_s)

    async def _apply_once(self, change: Change) -> Outcome:
        try:
            [outcome] = await self._batcher.submit([change])
        except TransientError as error:
            self._on_failure(store_error_code(error))
            raise
        except WorkerError:
            raise
        except ClosedError as error:
            raise FatalError(f"the index stage has ended: {error}") from error
        except StoreRefusedError as error:
            failed = StoreFailedError(str(error))
            self._on_failure(store_error_code(failed))
            raise failed from error
        except Exception as error:
            logger.exception("a document was refused", document_id=change.id)
            raise PoisonError("store_refused", f"{type(error).__name__}: the worker's log has more") from error
        if self._why_waiting is not None:
            logger.info("documents are written again")
            self._why_waiting = None
        return outcome

    def _note_outage(self, error: Exception, _failures: int, _pause_s: float) -> None:
        # Once an outage, not once a document and try.
        if self._why_waiting is None:
            logger.warning("documents wait for the vector store", reason=str(error))
        self._why_waiting = str(error)
