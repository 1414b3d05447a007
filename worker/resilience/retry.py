"""The one retry policy: which failures are tried again, how long between two tries, and when it ends.

Plain code instead of a library: what succeeds at once must cost nothing, and tenacity, on which stamina rests, takes
63 µs a call (docs/decisions/0018-own-retry-policy.md).
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from worker.errors import ExpiredError, RefusedError, TransientError

Result = TypeVar("Result")

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
