"""A server process that belongs to this one: started, awaited, stopped, and gone when its owner is gone."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

from worker.errors import FatalError
from worker.local.guard import TERMINATE_TIMEOUT_S

POLL_S = 0.05
TAIL_LINES = 15
# A port found free can be taken before the server binds it.
START_ATTEMPTS = 3

Started = TypeVar("Started")


def free_port() -> int:
    """Return a TCP port that is free on the loopback address now; it may be taken before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        # As servers do: what has just been closed is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def on_free_port(start: Callable[[int], Started], port: int | None = None) -> Started:
    """Return what ``start`` makes of ``port``, or of a free one, and of another if that is taken meanwhile. FatalError.

    That it was taken is told by the server's log, whose end is in the error.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            return start(port or free_port())
        except FatalError as error:
            if port is not None or attempt == START_ATTEMPTS or "Address already in use" not in str(error):
                raise
    raise AssertionError  # not reached: the last attempt returns or raises


def await_condition(is_met: Callable[[], bool], *, timeout_s: float) -> bool:
    """Return True as soon as the condition is met, False when the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not is_met():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(POLL_S)
    return True


class ServerProcess:
    """One server under a guard (see ``guard``). Blocking; use as a context manager or call ``stop``."""

    def __init__(
        self, name: str, command: Sequence[str], *, log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log: IO[bytes] = log_path.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-m", "worker.local.guard", *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            # Ctrl-C in a terminal goes to the whole group; these servers end after their owner has let go of them.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the guard: its end is the end of the server."""
        return self._process.pid

    def await_ready(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Return when ``is_ready`` does so; FatalError with the log's tail if the server ends or takes too long."""
        settled = await_condition(lambda: self._process.poll() is not None or is_ready(), timeout_s=timeout_s)
        if self._process.poll() is not None:
            raise self._failed(f"ended with exit code {self._process.returncode} while starting")
        if not settled:
            self.stop()
            raise self._failed(f"was not ready after {timeout_s:g} s")

    def stop(self) -> int:
        """End the server, wait for it and return its exit code; when it has ended, that alone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(TERMINATE_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _failed(self, what: str) -> FatalError:
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return FatalError(f"{self.name} {what}; the end of {self.log_path}:\n  " + "\n  ".join(lines))
