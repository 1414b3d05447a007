"""Requests to one HTTP endpoint: so many at once, in bounded time, repeated where it may help, none while it fails."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import monotonic

import structlog
from aiolimiter import AsyncLimiter
from pydantic import SecretStr

from worker.domain import Result
from worker.errors import ExpiredError, RefusedError, TransientError
from worker.resilience.retry import RetryPolicy, expiring, may_pass

logger = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


class CircuitOpenError(TransientError):
    """No request was made: the endpoint is left alone."""


class CutShortError(TransientError):
    """A request ended before it had its whole time: that tells nothing of the endpoint."""


class Circuit:
    """Before an endpoint that fails: closed, every request goes through; open, none.

    After a while one at a time, as a trial whose end decides (M. Nygard, Release It!, 2007). Belongs to the loop.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        failures: int,
        retry_s: float,
        service: str,
        on_change: Callable[[bool], None] = lambda _open: None,
    ) -> None:
        """Open after ``failures`` in a row, for ``retry_s``; ``on_change`` is told whether the circuit is open now.

        ``service`` begins the codes of its errors.
        """
        self._endpoint = endpoint
        self._service = service
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
                f"every {self._retry_s:g} s",
                code=f"{self._service}_unavailable",
            )
        self._trying = self._trying or is_trial
        try:
            yield
        except (ExpiredError, CutShortError):
            # Neither well nor ill: it might have answered.
            raise
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
        service: str,
        timeout_s: float,
        attempts: int,
        concurrency: int,
        limiter: AsyncLimiter | None = None,
        on_failure: Callable[[str], None] = lambda _code: None,
    ) -> None:
        """``limiter`` bounds the requests of a time, where the endpoint does. ``service`` begins the errors' codes.

        ``on_failure`` is told the code of each try that failed, or that an open circuit kept from being made.
        """
        self._name = name
        self._service = service
        self._circuit = circuit
        self._timeout_s = timeout_s
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=attempts, retries=_worth_another_try)
        self._slots = asyncio.Semaphore(concurrency)
        self._limiter = limiter
        self._on_failure = on_failure

    async def call(self, request: Callable[[], Awaitable[Result]], *, deadline_s: float | None = None) -> Result:
        """Return what ``request`` returns; all its tries and the pauses between them take ``timeout_s`` at most.

        That time runs while a try has a slot, and in the pauses, which have none. The wait for a slot is not counted:
        a queue at a healthy endpoint is no failure. It ends with ``deadline_s`` of the loop's clock, as all of this
        does, and is bounded besides by how many queries are in flight.

        ``request`` raises RefusedError for what would be refused again and TransientError for what may pass; the last
        of them is raised here, or ExpiredError.
        """
        loop = asyncio.get_running_loop()
        spent_s = 0.0

        def left_s() -> float:
            return min(self._timeout_s - spent_s, math.inf if deadline_s is None else deadline_s - loop.time())

        def note_pause(error: Exception, failures: int, pause_s: float) -> None:
            nonlocal spent_s
            spent_s += pause_s
            self._log_retry(error, failures, pause_s)

        async def try_once() -> Result:
            nonlocal spent_s
            async with expiring(deadline_s, f"the queue for {self._name}"):
                await self._slots.acquire()
            try:
                if deadline_s is not None and loop.time() >= deadline_s:
                    raise ExpiredError(f"the deadline passed in the queue for {self._name}")
                await self._wait_for_the_rate(deadline_s)
                begun_s = loop.time()
                try:
                    return await self._ask(request, self._timeout_s - spent_s, deadline_s)
                finally:
                    spent_s += loop.time() - begun_s
            finally:
                self._slots.release()

        return await self._policy.run(try_once, left_s=left_s, on_retry=note_pause)

    async def _ask(self, request: Callable[[], Awaitable[Result]], time_s: float, deadline_s: float | None) -> Result:
        # Inside the circuit, so that silence counts as failure and a query that is cancelled does not.
        try:
            async with self._circuit.request(), expiring(deadline_s, f"a request to {self._name}"):
                try:
                    async with asyncio.timeout(time_s):
                        return await request()
                except TimeoutError as error:
                    raise self._silent(whole=time_s >= self._timeout_s) from error
        except ExpiredError:
            raise
        except TransientError as error:
            self._on_failure(error.code or f"{self._service}_unavailable")
            raise

    async def _wait_for_the_rate(self, deadline_s: float | None) -> None:
        if self._limiter is None:
            return
        try:
            async with expiring(deadline_s, f"the queue for {self._name}"), asyncio.timeout(self._timeout_s):
                await self._limiter.acquire()
        except TimeoutError as error:
            raise self._silent(whole=False) from error

    def _silent(self, *, whole: bool) -> TransientError:
        kind = TransientError if whole else CutShortError
        return kind(f"{self._name} gave no answer within {self._timeout_s:g} s", code=f"{self._service}_timeout")

    def _log_retry(self, error: Exception, failures: int, pause_s: float) -> None:
        logger.info("asking again", endpoint=self._name, attempt=failures, pause_s=round(pause_s, 3), reason=str(error))


def failure(status: int, headers: Mapping[str, str], message: str, *, service: str) -> TransientError:
    """Return the error of a response that is no success: 4xx but 429 would be refused again, the rest may pass."""
    if status == TOO_MANY_REQUESTS:
        return TransientError(message, retry_after_s=_retry_after_s(headers), code=f"{service}_busy")
    if status >= SERVER_ERROR:
        return TransientError(message, retry_after_s=_retry_after_s(headers), code=f"{service}_unavailable")
    return RefusedError(message, code=f"{service}_refused")


def without_secrets(text: str, secrets: Sequence[SecretStr]) -> str:
    """Take our own secrets out of what an endpoint said: one that refuses a key may repeat it, and logs keep it."""
    for secret in secrets:
        text = text.replace(secret.get_secret_value(), str(secret)) if secret.get_secret_value() else text
    return text


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds or an HTTP date (RFC 9110, 10.2.3); None without it, or if it is neither.

    Never raises: a date may be of a year that no calendar here has, and its parser raises more than it says.
    """
    asked = headers.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _worth_another_try(error: Exception) -> bool:
    return may_pass(error) and not isinstance(error, CircuitOpenError | CutShortError)
