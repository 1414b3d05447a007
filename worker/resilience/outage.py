"""Outlasting an outage: queries wait for what is away, instead of going to the dead letters one after the other."""

import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_random_exponential

from worker.domain import Query
from worker.errors import ExpiredError, RefusedError, TransientError

logger = structlog.get_logger()

FIRST_RETRY_S = 0.5
# The waits of all queries in flight spread over this, so that what comes back meets a few calls and no storm.
LONGEST_RETRY_S = 15.0

Result = TypeVar("Result")


class Patience:
    """Calls one dependency. Built and used on the loop's thread.

    Queries that wait stay in flight: at the high-water mark their partitions pause, so memory stays bounded.
    """

    def __init__(self, dependency: str, *, patience_s: float, unix_time_s: Callable[[], float] = time.time) -> None:
        self._dependency = dependency
        self._patience_s = patience_s
        self._unix_time_s = unix_time_s
        self._away_since_s: float | None = None

    async def call(self, query: Query, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what ``call`` returns, however often it must be made.

        Raises its TransientError after ``patience_s``, once the query's deadline has passed, or at once if it is a
        RefusedError or an ExpiredError; any other error as it comes.
        """

        def give_up(state: RetryCallState) -> bool:
            expired = query.deadline_s is not None and self._unix_time_s() >= query.deadline_s
            return expired or stop_after_delay(self._patience_s)(state)

        jittered = wait_random_exponential(multiplier=FIRST_RETRY_S, max=LONGEST_RETRY_S)

        def pause_s(state: RetryCallState) -> float:
            # Whoever asked learns at the deadline, not up to `LONGEST_RETRY_S` later, that it is too late.
            left_s = math.inf if query.deadline_s is None else max(0.0, query.deadline_s - self._unix_time_s())
            return min(jittered(state), left_s)

        async def try_once() -> Result:
            # tenacity awaits functions it can tell to be coroutines, which a lambda is not.
            return await call()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=pause_s,
            stop=give_up,
            before_sleep=self._note_outage,
            reraise=True,
        )
        result: Result = await retrying(try_once)
        if self._away_since_s is not None:
            seconds = time.monotonic() - self._away_since_s
            logger.info("a dependency is back", dependency=self._dependency, seconds=seconds)
            self._away_since_s = None
        return result

    def _note_outage(self, state: RetryCallState) -> None:
        # Once an outage, not once a query and try.
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            error = state.outcome.exception() if state.outcome else None
            logger.warning(
                "waiting for a dependency",
                dependency=self._dependency,
                reason=str(error),
                patience_s=self._patience_s,
            )


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, RefusedError | ExpiredError)
