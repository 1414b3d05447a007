"""A connection to Chroma: what is asked over it, for how long, and what its failures mean."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FuturesTimeout
from functools import partial
from typing import Any

import httpx
import structlog
from chromadb.api import ClientAPI
from chromadb.api.client import Client
from chromadb.errors import AuthorizationError, ChromaAuthError, InternalError, RateLimitError

from worker.batching.executor import SingleThreadExecutor
from worker.domain import Result
from worker.errors import FatalError, TransientError, WorkerError
from worker.recall.chroma_client import address, connect
from worker.resilience.retry import RetryPolicy
from worker.settings import RecallSettings

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Between two tries: long enough for a restarting server, short beside the deadline of a search."""
COMMAND_TIMEOUT_S = 60.0
"""A command's call with its tries; longer than a search's, since it may write, count, or meet a cold collection."""
LEAVE_SLACK_S = 0.2
"""For httpx's own end of a read, which says better what was waited for, to come before a thread is left behind."""

BUSY = frozenset({429, 502, 503, 504})
"""HTTP statuses of a store, or of a proxy before it, that is not itself for the moment: no request is to blame."""

logger = structlog.get_logger()


class StoreFailedError(TransientError):
    """The store answered, and with a failure of its own: perhaps this request's doing."""


class StoreLostError(TransientError):
    """The store took a request and was gone before it had answered: perhaps it died of it."""


class DirectConnection:
    """One Chroma client, connected when first needed, on the thread that asks. Call it from one thread at a time."""

    def __init__(self, settings: RecallSettings, before_request: Callable[[], None] | None = None) -> None:
        """``before_request`` is called when a request has been made and is about to be sent, and may raise."""
        self._settings = settings
        self._before_request = before_request
        self._client: Client | None = None

    def ask(self, operation: Callable[[ClientAPI], Result], *, deadline: float) -> Result:
        """Return what ``operation`` makes of the client, tried once.

        Each read ends by ``deadline`` (``time.monotonic()``), which is not the whole: a server that sends a byte now
        and then keeps the thread for longer. Who must go on has it ask on another thread and leaves both behind then.
        Raises TransientError for a store that can't be asked and FatalError if it refuses the credentials; what Chroma
        says about the operation itself passes through unchanged.
        """
        try:
            if self._client is None:
                self._client = connect(self._settings, timeout_s=self._left_s(deadline))
                _hook(self._client, self._before_request)
            _limit(self._client, timeout_s=self._left_s(deadline))
            return operation(self._client)
        except WorkerError:
            raise
        except Exception as error:
            refined = _refined(error, address(self._settings))
            if refined is None:
                raise
            raise refined from error

    def close(self) -> None:
        """Let the connection go; the next ``ask`` opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _left_s(self, deadline: float) -> float:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TransientError(f"No time was left to ask Chroma at {address(self._settings)}.")
        return left_s


class ChromaConnection:
    """For commands: a connection that is asked again when it fails. Blocking; call it from one thread at a time."""

    def __init__(self, settings: RecallSettings, before_request: Callable[[], None] | None = None) -> None:
        """``before_request`` is as ``DirectConnection`` has it: an embedded store, which sends none, calls it never."""
        self._settings = settings
        self._before_request = before_request
        self._direct = DirectConnection(settings, before_request)
        self._thread: SingleThreadExecutor | None = None
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=settings.attempts)

    @property
    def address(self) -> str:
        """Where the store is, for people to read."""
        return address(self._settings)

    def run(self, operation: Callable[[ClientAPI], Result], *, deadline: float) -> Result:
        """Return what ``operation`` makes of the client, repeated on failures that may pass: ``recall.attempts`` times.

        ``deadline`` (``time.monotonic()``) ends the last try and all pauses together. An embedded store cannot be
        interrupted, only not tried again. Raises as ``DirectConnection.ask``.
        """
        return self._policy.run_blocking(
            partial(self._try_once, operation, deadline),
            left_s=lambda: deadline - time.monotonic(),
            on_retry=_log_retry,
        )

    def ask(self, operation: Callable[[ClientAPI], Result], *, doing: str = "") -> Result:
        """Return what ``run`` does within ``COMMAND_TIMEOUT_S``.

        What the store says of the operation itself is a FatalError too, which begins with ``doing``.
        """
        try:
            return self.run(operation, deadline=time.monotonic() + COMMAND_TIMEOUT_S)
        except WorkerError:
            raise
        except Exception as error:
            raise FatalError(f"{doing}Chroma at {self.address} says: {error}") from error

    def close(self) -> None:
        """Let the connection go; the next ``run`` opens another."""
        self._direct.close()
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _try_once(self, operation: Callable[[ClientAPI], Result], deadline: float) -> Result:
        ask = partial(self._direct.ask, operation, deadline=deadline)
        if self._settings.mode == "embedded":
            return ask()
        if self._thread is None:
            self._thread = SingleThreadExecutor("chroma")
        future = self._thread.submit(ask)
        try:
            return future.result(max(0.0, deadline - time.monotonic()) + LEAVE_SLACK_S)
        except FuturesTimeout:
            if future.done():
                raise
            # The thread ends with its call, and the connection is its alone until then.
            self._thread.submit(self._direct.close)
            self._thread.close()
            self._thread, self._direct = None, DirectConnection(self._settings, self._before_request)
            raise no_answer(self._settings) from None


def no_answer(settings: RecallSettings) -> TransientError:
    """Return the error of a call that was left behind."""
    return TransientError(f"Chroma at {address(settings)} did not answer in time.")


def _limit(client: ClientAPI, *, timeout_s: float) -> None:
    """Have each read and write of the client's next calls end in time; an embedded store can't be limited."""
    # Chroma's client has no setting for this and waits for ever (1.5.9).
    session = _session(client)
    if session is not None:
        session.timeout = httpx.Timeout(timeout_s)


def _hook(client: ClientAPI, before_request: Callable[[], None] | None) -> None:
    session = _session(client)
    if session is not None and before_request is not None:
        session.event_hooks = {"request": [lambda _request: before_request()]}


def _session(client: ClientAPI) -> httpx.Client | None:
    """Return what sends the client's requests; an embedded store has none."""
    session: Any = getattr(getattr(client, "_server", None), "_session", None)
    return session if isinstance(session, httpx.Client) else None


def _refined(error: Exception, where: str) -> FatalError | TransientError | None:  # noqa: PLR0911 - one line a kind
    """Name a failure of the connection; None is a failure of the operation, for the caller to judge."""
    # Chroma raises bare Exception and ValueError over httpx's errors: look below.
    causes = list(_chain(error))
    status = next((c.response.status_code for c in causes if isinstance(c, httpx.HTTPStatusError)), None)
    if status in {401, 403} or isinstance(error, (AuthorizationError, ChromaAuthError)):
        return FatalError(
            f"Chroma at {where} refuses the credentials: set RERANK_WORKER_RECALL__API_KEY, or "
            'RERANK_WORKER_RECALL__HEADERS, e.g. {"Authorization": "Bearer ..."}.'
        )
    if any(isinstance(cause, httpx.InvalidURL) for cause in causes):
        return FatalError(
            f"Chroma at {where} cannot be asked ({error}): check RERANK_WORKER_RECALL__HOST, and NO_PROXY, "
            "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in the environment."
        )
    if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
        return TransientError(f"Chroma at {where} did not answer in time.")
    if any(isinstance(cause, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)) for cause in causes):
        return StoreLostError(f"Chroma at {where} broke off in the middle of a request ({error}).")
    if any(isinstance(cause, httpx.TransportError) for cause in causes):
        return TransientError(f"Chroma at {where} cannot be reached ({error}): check that it runs.")
    garbled = any(isinstance(cause, json.JSONDecodeError) for cause in causes)
    if isinstance(error, InternalError) and status not in BUSY:
        return StoreFailedError(f"Chroma at {where} failed: {error}")
    if garbled or status is not None or isinstance(error, RateLimitError):
        return TransientError(f"Chroma at {where} failed: {error}")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _log_retry(error: Exception, failures: int, pause_s: float) -> None:
    logger.warning("chroma retry", attempt=failures, pause_s=round(pause_s, 3), error=str(error))
