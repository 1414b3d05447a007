"""One thread for calls that block: one at a time, in order, and never in the way of the process's end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from queue import SimpleQueue

from worker.domain import Result

COMPUTE_CLOSE_TIMEOUT_S = 30.0
"""For the forward pass under way when the worker ends; one that hangs is left behind."""


class SingleThreadExecutor:
    """A thread of one's own for what may not be shared between threads, or must not block the loop.

    The standard ``ThreadPoolExecutor`` is joined at the interpreter's exit without a timeout: a driver that hangs would
    outlive SIGTERM until the orchestrator kills it. This thread is a daemon, and joining it has a timeout. How many
    calls wait is bounded by the callers.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The thread's name, as in dumps of its stack."""
        return self._thread.name

    @property
    def busy_since_s(self) -> float | None:
        """When the call that runs now, or its last step, began, on the monotonic clock; None between calls.

        Any thread may read it.
        """
        return self._busy_since_s

    def still_at_work(self) -> None:
        """Say, from within a call that works in steps, that another is done: what it takes together is no hang."""
        self._busy_since_s = time.monotonic()

    def submit(self, call: Callable[[], Result]) -> "Future[Result]":
        """Queue a call, from any thread; cancelling its future before its turn skips it. RuntimeError once closed."""
        if self._closed:
            raise RuntimeError(f"the thread {self._thread.name!r} is closed")
        future: Future[Result] = Future()
        self._calls.put(lambda: _settle(future, call))
        return future

    async def run(self, call: Callable[[], Result]) -> Result:
        """Await a call from a loop; cancelling before its turn skips it, later its result is dropped."""
        return await asyncio.wrap_future(self.submit(call))

    def close(self) -> None:
        """Take no more calls, without blocking; the thread ends after those it has."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)

    def join(self, timeout_s: float) -> bool:
        """Block until the thread has ended after ``close``; False if a call still runs when time is up."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    async def aclose(self, timeout_s: float) -> None:
        """Close and join from a loop, which goes on meanwhile; a call that hangs is left behind."""
        self.close()
        await asyncio.to_thread(self.join, timeout_s)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._busy_since_s = time.monotonic()
            call()
            self._busy_since_s = None


def _settle(future: "Future[Result]", call: Callable[[], Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        with panics_as_errors():
            result = call()
    except BaseException as error:  # noqa: BLE001 - it belongs to who waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise a RuntimeError for what a Rust library's panic comes out as: no Exception, though one call's failure alone.

    tokenizers and Chroma are such libraries; pyo3's PanicException derives from BaseException, so that whatever names
    Exception lets it through, up to the end of the thread.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeError(f"native code panicked: {error}") from error


@asynccontextmanager
async def compute_executor(name: str = "compute") -> AsyncIterator[SingleThreadExecutor]:
    """Own a thread on which models compute; on a CPU the one on which all of this process's are loaded and compute.

    An OpenMP team belongs to the thread that starts it. Where the teams of a process have more threads than there are
    cores, GNU's runtime, which torch uses on Linux, lets a team's threads sleep between two operations instead of
    spinning (libgomp, ``gomp_managed_threads`` in team.c). On two cores a scorer that was loaded on one thread and run
    on another slept some 500 times a forward pass instead of never, and was 1 to 8 % slower on a quiet machine, up to
    20 % on a busy one. A thread that has ended takes its team along.
    """
    thread = SingleThreadExecutor(name)
    try:
        yield thread
    finally:
        await thread.aclose(COMPUTE_CLOSE_TIMEOUT_S)
