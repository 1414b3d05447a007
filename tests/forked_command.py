"""`rerank-worker` in a process of its own, forked from one that has imported what its commands import.

Importing it takes some 11 s of a core, and the suite types more than a hundred commands, most of them `run`. What a
start by itself does (its imports, a signal meanwhile) is tested with `python -m worker.cli.main`.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from multiprocessing import connection
from pathlib import Path

from tests.patience import HANG_S

FORKS = multiprocessing.get_context("forkserver")
# Beside what a worker imports at its top, what it and the commands import when they need it, which takes longer. Not
# `worker.cli`, which asks its arguments and the terminal's width of the process that it is imported by.
FORKS.set_forkserver_preload(
    [
        "worker.app.run",
        "sentence_transformers",
        "transformers.models.bert.modeling_bert",
        "worker.documents.files.ingest",
        "worker.client",
        "tests.forked_command",
    ]
)

# The end of a process is told once: whoever looks first must not take it from who looks at the same time. To start one
# is to look at all of them.
_looking = threading.Lock()


def nothing() -> None:
    """What is called before a command of which nothing is to be different."""


class ForkedCommand:
    """A command as if it had been typed, in this environment; what it prints goes to files. It does not wait.

    ``before``: a module's function, called in its process first.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        folder: Path | None = None,
        before: Callable[[], None] = nothing,
    ) -> None:
        told = (arguments, dict(environment), out, err, folder or Path.cwd(), before)
        # Daemonic: it ends with the tests.
        self._process = FORKS.Process(target=_run, args=told, daemon=True)
        with _looking:
            self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with _looking:
            return self._process.exitcode

    def wait(self, timeout: float) -> int:
        connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("the command", timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_command(
    *arguments: str, environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, in this environment and folder; what it printed is told as ``subprocess.run`` does."""
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        command = ForkedCommand(*arguments, environment=environment, out=out, err=err, folder=folder)
        try:
            code = command.wait(HANG_S)
        finally:
            command.kill()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _run(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    out: Path,
    err: Path,
    folder: Path,
    before: Callable[[], None],
) -> None:
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["rerank-worker", *arguments]
    before()
    # Now that its arguments and its environment are there: it looks at both when it is imported.
    from worker.cli.main import main  # noqa: PLC0415

    main()
