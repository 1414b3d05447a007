"""What libgomp itself says it was told, in the processes that people start: it reads the policy once, when loaded."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import HANG_S
from worker.local.process import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux alone"),
]

ROOT = Path(__file__).parents[3]
VARIABLES = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}


def spin_counts(*command: str, **environment: str) -> set[str]:
    """Return how often a thread looks before it sleeps, as each libgomp that a command loads reports it."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=kept | {"OMP_DISPLAY_ENV": "VERBOSE"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    found = set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", ended.stderr))
    assert found, ended.stderr[-2000:]
    return found


def a_worker_that_finds_no_broker(**policy: str) -> set[str]:
    return spin_counts(
        "worker.cli.main",
        "run",
        RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
        RERANK_WORKER_KAFKA__STARTUP_TIMEOUT_S="1",
        **policy,
    )


def test_a_workers_threads_spin_for_a_bounded_while() -> None:
    assert a_worker_that_finds_no_broker() == {"10000"}


def test_what_the_user_says_reaches_the_workers_threads() -> None:
    assert a_worker_that_finds_no_broker(GOMP_SPINCOUNT="77") == {"77"}
    assert "10000" not in a_worker_that_finds_no_broker(OMP_WAIT_POLICY="active")


def test_a_benchmark_that_imports_torch_first_measures_what_the_worker_does() -> None:
    assert spin_counts("benchmarks.scoring", "--help") == {"10000"}
