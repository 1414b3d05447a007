"""The circuit breaker before an endpoint: one that fails is left alone for a while instead of asked by every query."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from circuitbreaker import CircuitBreaker

from worker.errors import RefusedError, TransientError

logger = structlog.get_logger()


class Circuit:
    """Closed, every request goes through. Open, none. After a while one at a time, as a trial whose end decides.

    Belongs to the loop.
    """

    def __init__(self, endpoint: str, *, failures: int, retry_s: float, on_change: Callable[[bool], None]) -> None:
        """Open after ``failures`` in a row, for ``retry_s``; ``on_change`` is told whether the circuit is open now."""
        self._endpoint = endpoint
        self._failures = failures
        self._retry_s = retry_s
        self._on_change = on_change
        self._breaker = CircuitBreaker(failures, retry_s, expected_exception=TransientError)
        self._was_open = False
        self._trying = False

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Make a request inside: how it ends is counted. CircuitOpenError instead while none may be made."""
        is_trial = not self._breaker.closed
        if self._breaker.opened or (is_trial and self._trying):
            raise CircuitOpenError(
                f"{self._endpoint} was not asked: {self._failures} requests in a row have failed, it is tried again "
                f"every {self._retry_s:g} s"
            )
        self._trying = is_trial or self._trying
        try:
            yield
        except RefusedError:
            # It is well enough to refuse.
            self._breaker.reset()
            raise
        except TransientError:
            with self._breaker:
                raise
        except asyncio.CancelledError:
            # Whoever asked went away, which tells nothing of the endpoint.
            raise
        else:
            self._breaker.reset()
        finally:
            if is_trial:
                self._trying = False
            self._tell()

    def _tell(self) -> None:
        is_open = not self._breaker.closed
        if is_open != self._was_open:
            self._was_open = is_open
            event = "an endpoint fails and is left alone" if is_open else "an endpoint is back"
            logger.warning(event, endpoint=self._endpoint, retry_s=self._retry_s)
            self._on_change(is_open)


class CircuitOpenError(TransientError):
    """No request was made."""
