"""The embedded stack as a background process: `rerank-worker local up`, `down` and `status`.

``up`` starts this module as a supervisor with a session of its own; the servers are its children and end with it. A
state file says where everything is, and before it is written a pid file says who starts it.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from worker.app.stopping import STOP_SIGNALS, interruptible
from worker.errors import FatalError
from worker.local.jars import RESOLVE_TIMEOUT_S
from worker.local.kafka import START_TIMEOUT_S
from worker.local.process import TAIL_LINES, await_condition
from worker.local.stack import StackChoice, StackState, running_stack
from worker.settings import Settings

# Fetching Kafka's jars, then its start, with an address taken meanwhile tried again.
UP_TIMEOUT_S = RESOLVE_TIMEOUT_S + 3 * START_TIMEOUT_S
DOWN_TIMEOUT_S = 40.0


def up(settings: Settings, choice: StackChoice | None = None) -> StackState:
    """Start the stack in the background, or find it running or starting; return where things are. Blocks; FatalError.

    Whatever ends the wait, Ctrl-C above all, ends what it has started, too. Of a stack that is there already nothing
    of ``choice`` is changed.
    """
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "supervisor.log"
    supervisor: subprocess.Popen[bytes] | None = None
    try:
        if supervisor_pid(settings) is None:
            supervisor = _start_supervisor(choice or StackChoice(), log_path)
            # Before anything of it runs: from now on `down` and `status` know of it.
            _write(_pid_file(settings), str(supervisor.pid))
        return _await_up(settings, supervisor, log_path)
    except BaseException:
        if supervisor is not None:
            _end(supervisor)
        raise


def down(settings: Settings) -> bool:
    """End the background stack, or its start, and wait for it; False if there was none. FatalError if it stays."""
    pid = supervisor_pid(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    if not await_condition(lambda: not _alive(pid), timeout_s=DOWN_TIMEOUT_S):
        raise FatalError(f"the local stack (process {pid}) did not end within {DOWN_TIMEOUT_S:g} s")
    return True


def status(settings: Settings) -> StackState | None:
    """Return where the parts of the background stack are; None if it is not up, whatever an old state file says."""
    try:
        state = StackState(**json.loads(_state_file(settings).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if _alive(state.pid) else None


def supervisor_pid(settings: Settings) -> int | None:
    """Return the process that runs the stack, or starts it; None if there is none."""
    try:
        pid = int(_pid_file(settings).read_text())
    except (OSError, ValueError):
        return None
    return pid if _alive(pid) else None


def _await_up(settings: Settings, supervisor: "subprocess.Popen[bytes] | None", log_path: Path) -> StackState:
    def ended() -> bool:
        # Of our own child the kernel knows: right after it was started its command line is empty for a moment.
        return supervisor_pid(settings) is None if supervisor is None else supervisor.poll() is not None

    await_condition(lambda: ended() or status(settings) is not None, timeout_s=UP_TIMEOUT_S)
    state = status(settings)
    if state is None:
        tail = log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise FatalError("the local stack did not start:\n  " + "\n  ".join(tail))
    return state


def _end(supervisor: "subprocess.Popen[bytes]") -> None:
    supervisor.terminate()
    try:
        supervisor.wait(DOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # Its servers end with it, whatever it was doing.
        supervisor.kill()
        supervisor.wait()


def _start_supervisor(choice: StackChoice, log_path: Path) -> "subprocess.Popen[bytes]":
    with log_path.open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "worker.local.background", json.dumps(asdict(choice))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal goes to the whole group; whoever waits for it decides what becomes of it.
            start_new_session=True,
        )


def supervise(settings: Settings, choice: StackChoice) -> None:
    """Run the stack until SIGTERM or SIGINT, which end it at any point of its start too."""
    path = _state_file(settings)
    # Not a blocked signal and sigwait(): the servers would inherit the mask and never hear of their end.
    stoppable = interruptible(*STOP_SIGNALS, ending=lambda _: SystemExit(0))
    with stoppable, running_stack(settings, _folder(settings), choice) as state:
        _write(path, json.dumps(asdict(state), indent=1))
        try:
            signal.pause()
        finally:
            path.unlink(missing_ok=True)


def _folder(settings: Settings) -> Path:
    return settings.cache_dir.expanduser() / "local"


def _state_file(settings: Settings) -> Path:
    return _folder(settings) / "state.json"


def _pid_file(settings: Settings) -> Path:
    return _folder(settings) / "supervisor.pid"


def _write(path: Path, text: str) -> None:
    # Whole or not at all: others look at any time.
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.rename(path)


def _alive(pid: int) -> bool:
    """Whether this process is a stack's supervisor: a number alone may be another program's by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    # A zombie's is empty.
    return b"worker.local.background" in command


if __name__ == "__main__":
    try:
        supervise(Settings(), StackChoice(**json.loads(sys.argv[1])))
    except FatalError as failure:
        raise SystemExit(f"error: {failure}") from failure
