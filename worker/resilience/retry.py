"""The one retry policy: which failures are tried again, how long between two tries, and when it ends.

``RetryPolicy`` is the rule and its loop; ``OutageRetry`` lets queries wait with it for a dependency that is away.

Plain code instead of a library: what succeeds at once must cost nothing, and tenacity, on which stamina rests, takes
63 µs a call (docs/decisions/0018-own-retry-policy.md).
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from worker.domain import Query, Result
from worker.errors import ExpiredError, RefusedError, TransientError

logger = structlog.get_logger()

OUTAGE_FIRST_PAUSE_S = 0.5
# The waits of all queries in flight spread over this, so that what comes back meets a few calls and no storm.
OUTAGE_LONGEST_PAUSE_S = 15.0

OnRetry = Callable[[Exception, int, float], None]
"""Told before each pause: the failure, how many there were by now, and the pause in seconds."""


def may_pass(error: Exception) -> bool:
    """Whether another try may succeed: a refusal would be repeated, and nobody waits for what has expired."""
    return isinstance(error, TransientError) and not isinstance(error, RefusedError | ExpiredError)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter: uniform between 0 and a bound that doubles with each failure.

    The jitter spreads the tries of all who wait, so that what comes back meets a few calls and no storm
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A failure that says how long to wait
    (``TransientError.retry_after_s``) is taken at its word.
    """

    first_pause_s: float
    longest_pause_s: float
    attempts: int | None = None
    """Tries in all; None: as many as there is time for."""
    retries: Callable[[Exception], bool] = may_pass
    """Which failures are worth another try."""
    last_try_at_the_end: bool = False
    """A pause that would outlast the time is cut to it, for one last try. Else it is given up at once: a try needs
    time of its own."""

    def pause_s(self, error: Exception, failures: int, left_s: float = math.inf) -> float | None:
        """Return the seconds to wait after so many ``failures`` with ``left_s`` to go; None: give up now."""
        if not self.retries(error) or failures == self.attempts or left_s <= 0:
            return None
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        bound_s = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(failures - 1, 64))
        pause_s = random.uniform(0, bound_s) if asked_s is None else asked_s  # noqa: S311 - spreads load
        if pause_s < left_s:
            return pause_s
        return left_s if self.last_try_at_the_end else None

    async def run(
        self,
        call: Callable[[], Awaitable[Result]],
        *,
        left_s: Callable[[], float] = lambda: math.inf,
        on_retry: OnRetry = lambda _error, _failures, _pause_s: None,
    ) -> Result:
        """Return what ``call`` returns, however often it must be made; the failure that ends the tries as it came.

        ``left_s`` is asked after each failure for the seconds that are left.
        """
        failures = 0
        while True:
            try:
                return await call()
            except Exception as error:
                failures += 1
                pause_s = self.pause_s(error, failures, left_s())
                if pause_s is None:
                    raise
                on_retry(error, failures, pause_s)
            await asyncio.sleep(pause_s)

    def run_blocking(
        self,
        call: Callable[[], Result],
        *,
        left_s: Callable[[], float] = lambda: math.inf,
        on_retry: OnRetry = lambda _error, _failures, _pause_s: None,
    ) -> Result:
        """Do as ``run`` does, for a thread that may block."""
        failures = 0
        while True:
            try:
                return call()
            except Exception as error:
                failures += 1
                pause_s = self.pause_s(error, failures, left_s())
                if pause_s is None:
                    raise
                on_retry(error, failures, pause_s)
            time.sleep(pause_s)


class OutageRetry:
    """Queries wait for a dependency that is away, instead of going to the dead letters one after the other.

    Built and used on the loop's thread. Queries that wait stay in flight: at the high-water mark their partitions
    pause, so memory stays bounded.
    """

    def __init__(self, dependency: str, *, patience_s: float, unix_time_s: Callable[[], float] = time.time) -> None:
        """Wait for at most ``patience_s`` a query; 0: not at all."""
        self._dependency = dependency
        self._patience_s = patience_s
        self._unix_time_s = unix_time_s
        self._policy = RetryPolicy(OUTAGE_FIRST_PAUSE_S, OUTAGE_LONGEST_PAUSE_S, last_try_at_the_end=True)
        self._away_since_s: float | None = None

    async def call(self, query: Query, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what ``call`` returns, however often it must be made.

        Raises its TransientError after ``patience_s``, once the query's deadline has passed, or at once if it is a
        RefusedError or an ExpiredError; any other error as it comes.
        """
        begun_s = time.monotonic()

        def left_s() -> float:
            patience_s = self._patience_s - (time.monotonic() - begun_s)
            # Whoever asked learns at the deadline, not a pause later, that it is too late.
            return min(patience_s, math.inf if query.deadline_s is None else query.deadline_s - self._unix_time_s())

        result = await self._policy.run(call, left_s=left_s, on_retry=self._note_outage)
        if self._away_since_s is not None:
            seconds = time.monotonic() - self._away_since_s
            logger.info("a dependency is back", dependency=self._dependency, seconds=seconds)
            self._away_since_s = None
        return result

    def _note_outage(self, error: Exception, _failures: int, _pause_s: float) -> None:
        # Once an outage, not once a query and try.
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            logger.warning(
                "waiting for a dependency",
                dependency=self._dependency,
                reason=str(error),
                patience_s=self._patience_s,
            )
