"""The connection to Chroma: opened as the settings say, bounded in time, its failures named."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FuturesTimeout
from dataclasses import replace
from functools import partial
from typing import Any, cast

import chromadb
import httpx
import structlog
from chromadb.api import ClientAPI
from chromadb.api.client import Client
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import AuthorizationError, ChromaAuthError, InternalError, RateLimitError

from worker.batching.executor import SingleThreadExecutor
from worker.domain import Result
from worker.errors import FatalError, TransientError, WorkerError
from worker.resilience.retry import RetryPolicy
from worker.settings import RecallSettings

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Between two tries: long enough for a restarting server, short beside the deadline of a search."""
READ_SLACK_S = 0.2
"""For httpx's own end of a read, which says better what was waited for, to come first."""

BUSY = frozenset({429, 502, 503, 504})
"""HTTP statuses of a store, or of a proxy before it, that is not itself for the moment: no request is to blame."""

logger = structlog.get_logger()


class StoreFailedError(TransientError):
    """The store answered, and with a failure of its own: perhaps this request's doing."""


class StoreLostError(TransientError):
    """The store took a request and was gone before it had answered: perhaps it died of it."""


class ChromaConnection:
    """One Chroma client, connected when first needed. Blocking; call it from one thread at a time."""

    def __init__(self, settings: RecallSettings) -> None:
        self._settings = settings
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._client: Client | None = None
        self._thread: SingleThreadExecutor | None = None
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S, attempts=settings.attempts)

    @property
    def address(self) -> str:
        """Where the store is, for people to read."""
        if self._settings.mode == "embedded":
            return f"the folder {self._settings.path} (RERANK_WORKER_RECALL__PATH)"
        return f"{self._url} (RERANK_WORKER_RECALL__HOST and __PORT)"

    def run(self, operation: Callable[[ClientAPI], Result], *, deadline: float, attempts: int | None = None) -> Result:
        """Return what ``operation`` makes of the client, repeated on failures that may pass: ``recall.attempts`` times.

        ``attempts``: another number of tries, 1 where the caller waits elsewhere than on this thread.

        ``deadline`` (``time.monotonic()``) ends the last try and all pauses together. An embedded store cannot be
        interrupted, only not tried again. Raises TransientError when the tries or the time are used up, FatalError if
        the store refuses the credentials; what Chroma says about the operation itself passes through unchanged.
        """
        policy = self._policy if attempts is None else replace(self._policy, attempts=attempts)
        return policy.run_blocking(
            partial(self._try_once, operation, deadline),
            left_s=lambda: deadline - time.monotonic(),
            on_retry=_log_retry,
        )

    def close(self) -> None:
        """Let the connection go; the next ``run`` opens another."""
        if self._client is not None:
            self._client.close()
        self._forget()

    @property
    def _host(self) -> str:
        # An IPv6 address; in a URL its colons would be read as a port's.
        host = self._settings.host
        return f"[{host}]" if ":" in host and not host.startswith("[") else host

    @property
    def _url(self) -> str:
        return f"{'https' if self._settings.ssl else 'http'}://{self._host}:{self._settings.port}"

    def _try_once(self, operation: Callable[[ClientAPI], Result], deadline: float) -> Result:
        try:
            if self._client is None:
                left_s = self._left_s(deadline)
                self._client = self._in_time(partial(self._connect, left_s), left_s)
            left_s = self._left_s(deadline)
            _limit(self._client, left_s)
            return self._in_time(partial(operation, self._client), left_s)
        except WorkerError:
            raise
        except Exception as error:
            refined = self._refine(error)
            if refined is None:
                raise
            raise refined from error

    def _left_s(self, deadline: float) -> float:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TransientError(f"No time was left to ask Chroma at {self.address}.")
        return left_s

    def _in_time(self, call: Callable[[], Result], timeout_s: float) -> Result:
        """Return what a call to a server gives within a time; one to an embedded store can't be left behind."""
        if self._settings.mode == "embedded":
            return call()
        if self._thread is None:
            self._thread = SingleThreadExecutor("chroma")
        future = self._thread.submit(call)
        try:
            return future.result(timeout_s + READ_SLACK_S)
        except FuturesTimeout:
            if future.done():
                raise
            # httpx's time is that of one read: a server that sends a byte now and then is not left by it. The thread
            # ends with its call, and the client is its alone until then.
            self._forget()
            raise TransientError(f"Chroma at {self.address} did not answer in time.") from None

    def _forget(self) -> None:
        self._client = None
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _connect(self, timeout_s: float) -> Client:
        settings = ChromaSettings(anonymized_telemetry=False)
        if self._settings.mode == "embedded":
            return self._open_folder(settings)
        # HttpClient asks the server several things while it is made, without any timeout: see first if it answers, for
        # a thread that is left behind stays for as long as it is not answered.
        httpx.get(f"{self._url}/api/v2/heartbeat", headers=self._headers, timeout=timeout_s).raise_for_status()
        client = chromadb.HttpClient(
            host=self._host,
            port=self._settings.port,
            ssl=self._settings.ssl,
            headers=dict(self._headers),
            settings=settings,
        )
        return cast(Client, client)

    def _open_folder(self, settings: ChromaSettings) -> Client:
        try:
            return cast(Client, chromadb.PersistentClient(path=self._settings.path, settings=settings))
        except Exception as error:
            raise FatalError(
                f"Chroma cannot open {self.address}: {error}. Name a folder this process may write, or a new one."
            ) from error

    def _refine(self, error: Exception) -> FatalError | TransientError | None:  # noqa: PLR0911 - one line a kind
        """Name a failure of the connection; None is a failure of the operation, for the caller to judge."""
        # Chroma raises bare Exception and ValueError over httpx's errors: look below.
        causes = list(_chain(error))
        status = next((c.response.status_code for c in causes if isinstance(c, httpx.HTTPStatusError)), None)
        if status in {401, 403} or isinstance(error, (AuthorizationError, ChromaAuthError)):
            return FatalError(
                f"Chroma at {self.address} refuses the credentials: set RERANK_WORKER_RECALL__HEADERS, "
                'e.g. {"Authorization": "Bearer ..."}.'
            )
        if any(isinstance(cause, httpx.InvalidURL) for cause in causes):
            return FatalError(
                f"Chroma at {self.address} cannot be asked ({error}): check RERANK_WORKER_RECALL__HOST, and NO_PROXY, "
                "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in the environment."
            )
        if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
            return TransientError(f"Chroma at {self.address} did not answer in time.")
        if any(isinstance(cause, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)) for cause in causes):
            return StoreLostError(f"Chroma at {self.address} broke off in the middle of a request ({error}).")
        if any(isinstance(cause, httpx.TransportError) for cause in causes):
            return TransientError(f"Chroma at {self.address} cannot be reached ({error}): check that it runs.")
        garbled = any(isinstance(cause, json.JSONDecodeError) for cause in causes)
        if isinstance(error, InternalError) and status not in BUSY:
            return StoreFailedError(f"Chroma at {self.address} failed: {error}")
        if garbled or status is not None or isinstance(error, RateLimitError):
            return TransientError(f"Chroma at {self.address} failed: {error}")
        return None


def _limit(client: ClientAPI, timeout_s: float) -> None:
    # Chroma's client has no setting for this and waits for ever (1.5.9); an embedded store has no session.
    session: Any = getattr(getattr(client, "_server", None), "_session", None)
    if isinstance(session, httpx.Client):
        session.timeout = httpx.Timeout(timeout_s)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _log_retry(error: Exception, failures: int, pause_s: float) -> None:
    logger.warning("chroma retry", attempt=failures, pause_s=round(pause_s, 3), error=str(error))
