"""The embedded stack as a background process: `rerank-worker local up`, `down` and `status`.

``up`` starts this module as a supervisor with a session of its own; the servers are its children and end with it. Its
state file says where everything is.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from worker.errors import FatalError
from worker.local.kafka import RESOLVE_TIMEOUT_S, START_TIMEOUT_S
from worker.local.process import TAIL_LINES, await_condition
from worker.local.stack import StackState, running_stack
from worker.settings import Settings

# Fetching Kafka's jars, then its start, with an address taken meanwhile tried again.
UP_TIMEOUT_S = RESOLVE_TIMEOUT_S + 3 * START_TIMEOUT_S
DOWN_TIMEOUT_S = 40.0


def up(settings: Settings) -> StackState:
    """Start the stack in the background, or find it running; return where things are. Blocks; FatalError."""
    running = status(settings)
    if running is not None:
        return running
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "supervisor.log"
    with log_path.open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "worker.local.background"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    await_condition(lambda: supervisor.poll() is not None or status(settings) is not None, timeout_s=UP_TIMEOUT_S)
    state = status(settings)
    if state is None:
        supervisor.terminate()
        tail = log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise FatalError("the local stack did not start:\n  " + "\n  ".join(tail))
    return state


def down(settings: Settings) -> bool:
    """End the background stack and wait for it; False if none was running. FatalError if it does not end."""
    state = status(settings)
    if state is None:
        return False
    os.kill(state.pid, signal.SIGTERM)
    if not await_condition(lambda: not _alive(state.pid), timeout_s=DOWN_TIMEOUT_S):
        raise FatalError(f"the local stack (process {state.pid}) did not end within {DOWN_TIMEOUT_S:g} s")
    return True


def status(settings: Settings) -> StackState | None:
    """Return where the background stack's parts are; None if it is not running, whatever an old state file says."""
    try:
        state = StackState(**json.loads(_state_file(settings).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if _alive(state.pid) else None


def supervise(settings: Settings) -> None:
    """Run the stack until SIGTERM or SIGINT, which end it at any point of its start too."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not a blocked signal and sigwait(): the servers would inherit the mask and never hear of their end.
        signal.signal(number, _exit)
    path = _state_file(settings)
    with running_stack(settings, _folder(settings)) as state:
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(state), indent=1))
        scratch.rename(path)
        try:
            signal.pause()
        finally:
            path.unlink(missing_ok=True)


def _folder(settings: Settings) -> Path:
    return settings.cache_dir.expanduser() / "local"


def _state_file(settings: Settings) -> Path:
    return _folder(settings) / "state.json"


def _alive(pid: int) -> bool:
    """Whether this process is a stack's supervisor: a number alone may be another program's by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"worker.local.background" in command


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        supervise(Settings())
    except FatalError as failure:
        raise SystemExit(f"error: {failure}") from failure
