"""Recall that outlasts an outage of the store: the topic waits where it is, instead of going to the dead letters."""

import math
import time
from collections.abc import Callable, Sequence

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from worker.errors import TransientError
from worker.recall.base import Recall
from worker.types import Candidate, Query

logger = structlog.get_logger()

FIRST_RETRY_S = 0.5
# The waits of all queries in flight spread over this, so that a store that comes back meets a few batches and no storm.
LONGEST_RETRY_S = 15.0


class OutlastingRecall:
    """Implements ``Recall`` around another one. Built and used on the loop's thread.

    Queries that wait stay in flight: at the high-water mark their partitions pause, so memory stays bounded.
    """

    def __init__(self, recall: Recall, *, patience_s: float, unix_time_s: Callable[[], float] = time.time) -> None:
        self._recall = recall
        self._patience_s = patience_s
        self._unix_time_s = unix_time_s
        self._away_since_s: float | None = None

    async def recall(self, query: Query) -> Sequence[Candidate]:
        """Return the query's candidates; TransientError after ``patience_s``, or once its deadline has passed."""

        def give_up(state: RetryCallState) -> bool:
            expired = query.deadline_s is not None and self._unix_time_s() >= query.deadline_s
            return expired or stop_after_delay(self._patience_s)(state)

        jittered = wait_random_exponential(multiplier=FIRST_RETRY_S, max=LONGEST_RETRY_S)

        def pause_s(state: RetryCallState) -> float:
            # Whoever asked learns at the deadline, not up to `LONGEST_RETRY_S` later, that it is too late.
            left_s = math.inf if query.deadline_s is None else max(0.0, query.deadline_s - self._unix_time_s())
            return min(jittered(state), left_s)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=pause_s,
            stop=give_up,
            before_sleep=self._note_outage,
            reraise=True,
        )
        candidates: Sequence[Candidate] = await retrying(self._recall.recall, query)
        if self._away_since_s is not None:
            logger.info("the vector store is back", seconds=time.monotonic() - self._away_since_s)
            self._away_since_s = None
        return candidates

    def _note_outage(self, state: RetryCallState) -> None:
        # Once an outage, not once a query and try.
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            error = state.outcome.exception() if state.outcome else None
            logger.warning("waiting for the vector store", reason=str(error), patience_s=self._patience_s)
