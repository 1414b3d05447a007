"""The README's demo, as a newcomer runs it, and what happens when somebody stops it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.patience import HANG_S
from worker.local.process import await_condition

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# `make demo` on the environment these tests run in; `-o`: whoever runs them has set it up. Relative, since make can't
# take a path with spaces as a target.
VENV = os.path.relpath(sys.prefix, ROOT)
MAKE_DEMO = ["make", f"VENV={VENV}", "-o", f"{VENV}/.installed", "demo"]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "a path with spaces"
    folder.mkdir()
    return folder


@pytest.fixture
def start(scratch: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a command beside stale settings of another worker; ends what a failing test leaves."""
    started: list[subprocess.Popen[str]] = []

    def popen(command: list[str], cwd: Path) -> "subprocess.Popen[str]":
        environment = {
            **os.environ,
            "COLUMNS": "80",
            "TMPDIR": str(scratch),
            "RERANK_WORKER_MODELS": "offline",
            "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS": "elsewhere.invalid:9092",
            "RERANK_WORKER_RECALL__MODE": "embedded",
            "RERANK_WORKER_ANSWER__BASE_URL": "http://elsewhere.invalid/v1",
            "RERANK_WORKER_ANSWER__MODEL": "anothers",
        }
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def of_this_run(scratch: Path) -> list[str]:
    """Every process that was started with this run's temporary folder in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(scratch):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def nothing_left(scratch: Path) -> bool:
    ended = await_condition(lambda: not of_this_run(scratch), timeout_s=HANG_S)
    return ended and not list(scratch.glob("rerank-worker-demo-*"))


def test_the_demo_shows_what_it_promises_and_leaves_nothing(
    start: Callable[..., "subprocess.Popen[str]"], scratch: Path
) -> None:
    demo = start(MAKE_DEMO, ROOT)
    printed, _ = demo.communicate(timeout=HANG_S)
    assert demo.returncode == 0, printed
    first = "Which privileges does a user need to capture changes from PostgreSQL?  ok"
    assert printed.index(first) < printed.index("  no_context ") < printed.rindex(first), (
        "by quotation, then by the LLM"
    )
    assert re.search(r"\d+ → \d+ ▲\d+", printed)
    assert "dropped" in printed
    assert "Not in the documents" in printed
    assert re.search(r"here: nDCG@10 on 49 sample questions is 0\.\d+ as recalled", " ".join(printed.split()))
    assert re.search(r"rerank +[\d.]+ m?s +[\d.]+ m?s", printed)
    assert "Where to go next" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert nothing_left(scratch)


@pytest.mark.parametrize(
    ("moment", "number", "exit_code"), [("Starting", signal.SIGTERM, 143), ("Asking", signal.SIGINT, 130)]
)
def test_a_demo_that_is_stopped_says_so_and_leaves_nothing(
    start: Callable[..., "subprocess.Popen[str]"], scratch: Path, moment: str, number: int, exit_code: int
) -> None:
    demo = start([sys.executable, "-m", "worker.cli.main", "demo"], scratch)
    assert demo.stdout is not None
    for line in demo.stdout:
        if moment in line:
            break
    # Ctrl-C in a terminal reaches the whole foreground group.
    os.killpg(demo.pid, number)
    printed, _ = demo.communicate(timeout=HANG_S)
    assert demo.returncode == exit_code, printed
    assert "Traceback" not in printed
    assert printed.count("Stopping everything") == 1
    assert nothing_left(scratch)
