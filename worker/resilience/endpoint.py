"""Requests to one HTTP endpoint: so many at once, in bounded time, repeated where it may help, none while it fails."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import monotonic

import structlog
from aiolimiter import AsyncLimiter

from worker.domain import Result
from worker.errors import RefusedError, TransientError
from worker.resilience.retry import RetryPolicy, may_pass

logger = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


class CircuitOpenError(TransientError):
    """No request was made: the endpoint is left alone."""


class Circuit:
    """Before an endpoint that fails: closed, every request goes through; open, none.

    After a while one at a time, as a trial whose end decides (M. Nygard, Release It!, 2007). Belongs to the loop.
    """

    def __init__(self, endpoint: str, *, failures: int, retry_s: float, on_change: Callable[[bool], None]) -> None:
        """Open after ``failures`` in a row, for ``retry_s``; ``on_change`` is told whether the circuit is open now."""
        self._endpoint = endpoint
        self._limit = failures
        self._retry_s = retry_s
        self._on_change = on_change
        self._failures = 0
        self._open_since_s: float | None = None
        self._trying = False

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Make a request inside: how it ends is counted. CircuitOpenError instead while none may be made."""
        is_trial = self._open_since_s is not None
        if self._open_since_s is not None and (self._trying or monotonic() - self._open_since_s < self._retry_s):
            raise CircuitOpenError(
                f"{self._endpoint} was not asked: {self._limit} requests in a row have failed, it is tried again "
                f"every {self._retry_s:g} s"
            )
        self._trying = self._trying or is_trial
        try:
            yield
        except RefusedError:
            # It is well enough to refuse.
            self._succeeded()
            raise
        except TransientError:
            self._failed()
            raise
        else:
            self._succeeded()
        finally:
            # A request that is cancelled tells nothing of the endpoint.
            if is_trial:
                self._trying = False

    def _succeeded(self) -> None:
        self._failures = 0
        if self._open_since_s is not None:
            self._open_since_s = None
            self._tell("an endpoint is back", is_open=False)

    def _failed(self) -> None:
        self._failures += 1
        if self._failures < self._limit:
            return
        was_open = self._open_since_s is not None
        self._open_since_s = monotonic()
        if not was_open:
            self._tell("an endpoint fails and is left alone", is_open=True)

    def _tell(self, event: str, *, is_open: bool) -> None:
        logger.warning(event, endpoint=self._endpoint, retry_s=self._retry_s)
        self._on_change(is_open)


class Endpoint:
    """What stands between the queries and one endpoint. Built and used on the loop's thread."""

    def __init__(
        self,
        name: str,
        circuit: Circuit,
        *,
        timeout_s: float,
        attempts: int,
        concurrency: int,
        limiter: AsyncLimiter | None = None,
    ) -> None:
        """``limiter`` bounds the requests of a time, where the endpoint does."""
        self._name = name
        self._circuit = circuit
        self._timeout_s = timeout_s
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=attempts, retries=_worth_another_try)
        self._slots = asyncio.Semaphore(concurrency)
        self._limiter = limiter

    async def call(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Return what ``request`` returns; all tries, pauses and the wait for a slot end within ``timeout_s``.

        ``request`` raises RefusedError for what would be refused again and TransientError for what may pass; the last
        of them is raised here.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s

        async def try_once() -> Result:
            if self._limiter is not None:
                await self._within(deadline_s, self._limiter.acquire)
            async with self._circuit.request():
                # Inside the circuit, so that silence counts as failure and a query that is cancelled does not.
                return await self._within(deadline_s, request)

        await self._within(deadline_s, self._slots.acquire)
        try:
            return await self._policy.run(try_once, left_s=lambda: deadline_s - loop.time(), on_retry=self._log_retry)
        finally:
            self._slots.release()

    async def _within(self, deadline_s: float, call: Callable[[], Awaitable[Result]]) -> Result:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await call()
        except TimeoutError as error:
            raise TransientError(f"{self._name} gave no answer within {self._timeout_s:g} s") from error

    def _log_retry(self, error: Exception, failures: int, pause_s: float) -> None:
        logger.info("asking again", endpoint=self._name, attempt=failures, pause_s=round(pause_s, 3), reason=str(error))


def failure(status: int, headers: Mapping[str, str], message: str) -> TransientError:
    """Return the error of a response that is no success: 4xx but 429 would be refused again, the rest may pass."""
    if status == TOO_MANY_REQUESTS or status >= SERVER_ERROR:
        return TransientError(message, retry_after_s=_retry_after_s(headers))
    return RefusedError(message)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds or an HTTP date (RFC 9110, 10.2.3); None without it, or if it is neither."""
    asked = headers.get("retry-after", "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None


def _worth_another_try(error: Exception) -> bool:
    return may_pass(error) and not isinstance(error, CircuitOpenError)
