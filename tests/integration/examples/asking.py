"""What each example that asks must do, and how its libraries are fetched."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from tests.integration.examples.conftest import Service
from tests.patience import HANG_S
from tests.topics import held
from worker.local.process import await_condition

EXAMPLES = Path(__file__).parents[3] / "examples"
QUESTION = "What is the capital of France?"

NO_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|Unknown host|Could not transfer"
    r"|Connection (?:refused|reset)|timed out|offline mode"
)


def require(*tools: str) -> None:
    """Skip where one of these commands is missing."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"not on this machine: {', '.join(missing)}")


def prepared(folder: Path, prepare: Callable[[Path], None]) -> Path:
    """Return the folder, which is prepared once per machine: its name says for what."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock", timeout=HANG_S):
        if not (folder / "complete").exists():
            prepare(folder)
            (folder / "complete").touch()
    return folder


def fetch(command: Sequence[str], folder: Path) -> None:
    """Run what fetches an example's libraries. Skips where the network is what it lacks; anything else is a failure."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=HANG_S)
    said = done.stdout + done.stderr
    if done.returncode != 0 and (why := NO_NETWORK.search(said)):
        pytest.skip(f"{command[0]} can't fetch the example's libraries: {why[0]}")
    assert done.returncode == 0, said


def check(command: Sequence[str], folder: Path, service: Service) -> None:
    """Ask for an answer, for a failure, and where no reply may come."""

    def ask(environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, QUESTION],
            cwd=folder,
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * HANG_S,
        )

    answered = ask(service.environment())
    assert answered.returncode == 0, answered
    assert "Paris is the capital and most populous city of France." in answered.stdout
    assert "[1] paris" in answered.stdout

    failed = ask(service.environment(COLLECTION="not-there"))
    assert failed.returncode == 1, failed
    assert "failed (unknown_collection, poison): " in failed.stderr

    # Nobody answers there, so the time is not what is tested.
    unanswered = ask(service.environment(REPLY_TOPIC=f"not-{service.reply_topic}", DEADLINE_S="3"))
    assert unanswered.returncode == 2, unanswered
    assert "kafka.reply_topics?" in unanswered.stderr

    # The query's key leads to one partition, whoever writes it: theirs is murmur2, and so is the worker's.
    kafka = service.kafka
    assert await_condition(lambda: len(held(kafka, kafka.answer_topic)) == 1, timeout_s=HANG_S)
    asked = {message.key(): message.partition() for message in held(kafka, kafka.query_topic)}
    told = {message.key(): message.partition() for message in held(kafka, kafka.answer_topic)}
    assert len(asked) == 3
    assert told.items() <= asked.items()
