"""Requests to one HTTP endpoint: so many at once, in bounded time, repeated where it may help, none while it fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

import structlog
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from worker.errors import RefusedError, TransientError
from worker.resilience.circuit import Circuit, CircuitOpenError

logger = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500

Result = TypeVar("Result")


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
        self._attempts = attempts
        self._slots = asyncio.Semaphore(concurrency)
        self._limiter = limiter
        self._jittered = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)

    async def call(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Return what ``request`` returns; all tries, pauses and the wait for a slot end within ``timeout_s``.

        ``request`` raises RefusedError for what would be refused again and TransientError for what may pass; the last
        of them is raised here.
        """
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        await self._within(deadline_s, self._slots.acquire)
        try:
            return await self._retrying(deadline_s, request)
        finally:
            self._slots.release()

    async def _retrying(self, deadline_s: float, request: Callable[[], Awaitable[Result]]) -> Result:
        loop = asyncio.get_running_loop()

        def used_up(state: RetryCallState) -> bool:
            tries = state.attempt_number >= self._attempts
            return tries or loop.time() + state.upcoming_sleep >= deadline_s

        async def try_once() -> Result:
            if self._limiter is not None:
                await self._within(deadline_s, self._limiter.acquire)
            async with self._circuit.request():
                # Inside the circuit, so that silence counts as failure and a query that is cancelled does not.
                return await self._within(deadline_s, request)

        retrying = AsyncRetrying(
            stop=used_up,
            wait=self._pause_s,
            retry=retry_if_exception(_worth_another_try),
            before_sleep=self._log_retry,
            reraise=True,
        )
        result: Result = await retrying(try_once)
        return result

    async def _within(self, deadline_s: float, call: Callable[[], Awaitable[Result]]) -> Result:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await call()
        except TimeoutError as error:
            raise TransientError(f"{self._name} gave no answer within {self._timeout_s:g} s") from error

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, TransientError) else None
        return self._jittered(state) if asked is None else asked

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.info("asking again", endpoint=self._name, attempt=state.attempt_number, reason=str(error))


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


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, RefusedError | CircuitOpenError)
