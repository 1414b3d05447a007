"""The worker as production runs it: the `run` command in a process of its own, configured by its environment."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import HANG_S
from worker.cli.main import main
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings

LAST_LINES = 15

# Importing torch and all else takes some 11 s of a core, and the suite starts a hundred workers: they are forked from a
# process that has imported it, where the start itself is not what a test is about.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["worker.app.run"])


class Process(Protocol):
    """What tests do with a process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: signal.Signals) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class ForkedProcess:
    """A worker forked from a process that has imported everything, as if it had been started by its command."""

    def __init__(
        self, subcommand: str, environment: Mapping[str, str], log_path: Path, before: Callable[[], None]
    ) -> None:
        # Daemonic: it ends with the tests.
        arguments = (subcommand, dict(environment), log_path, before)
        self._process = FORKS.Process(target=_run_command, args=arguments, daemon=True)
        self._process.start()
        # Its end is told once: whoever looks first must not take it from who looks at the same time.
        self._looking = threading.Lock()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with self._looking:
            return self._process.exitcode

    def wait(self, timeout: float) -> int:
        ended = await_condition(lambda: self.poll() is not None, timeout_s=timeout)
        code = self.poll()
        if not ended or code is None:
            raise subprocess.TimeoutExpired("the worker", timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _nothing() -> None: ...


def _run_command(subcommand: str, environment: dict[str, str], log_path: Path, before: Callable[[], None]) -> None:
    with log_path.open("ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["rerank-worker", subcommand]
    before()
    main()


@dataclass
class WorkerProcess:
    process: Process
    telemetry: str
    log_path: Path

    def await_ready(self) -> "WorkerProcess":
        settled = await_condition(lambda: self.ended or self.is_ready, timeout_s=HANG_S)
        assert settled, self.log_path.read_text()
        assert not self.ended, self.log_path.read_text()
        return self

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.telemetry}/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        page = httpx.get(f"{self.telemetry}/metrics", timeout=5).text
        families = text_string_to_metric_families(page)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def describe(self) -> str:
        """Its own progress and the end of its log."""
        try:
            progress = httpx.get(f"{self.telemetry}/progress", timeout=5).text
        except httpx.TransportError as error:
            progress = f"no progress: {error!r}"
        return "\n".join([progress, *self.log_path.read_text().splitlines()[-LAST_LINES:]])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(HANG_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(HANG_S)


def start_worker_process(
    kafka: KafkaSettings,
    recall: RecallSettings,
    log_path: Path,
    *,
    subcommand: str = "run",
    command: Sequence[str] | None = None,
    before: Callable[[], None] = _nothing,
    **environment: str,
) -> WorkerProcess:
    """Start a worker with the offline models; ``environment`` has settings without their prefix. It does not wait.

    ``subcommand``: `run` or `index`. ``command``: what Python runs in its stead. ``before``: a module's function,
    called in its process first.
    """
    port = free_port()
    settings = {
        "MODELS": "offline",
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__QUERY_TOPIC": kafka.query_topic,
        "KAFKA__ANSWER_TOPIC": kafka.answer_topic,
        "KAFKA__DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
        "KAFKA__GROUP_ID": kafka.group_id,
        "KAFKA__DOCUMENTS_TOPIC": kafka.documents_topic,
        "KAFKA__DOCUMENTS_DEAD_LETTER_TOPIC": kafka.documents_dead_letter_topic,
        "KAFKA__DOCUMENTS_GROUP_ID": kafka.documents_group_id,
        "KAFKA__COMMIT_INTERVAL_S": str(kafka.commit_interval_s),
        "KAFKA__SESSION_TIMEOUT_S": str(kafka.session_timeout_s),
        "RECALL__HOST": recall.host,
        "RECALL__PORT": str(recall.port),
        "RECALL__COLLECTION": recall.collection,
        "RERANK__THREADS": "1",
        "TELEMETRY__HOST": "127.0.0.1",
        "TELEMETRY__PORT": str(port),
        **environment,
    }
    whole = {**os.environ, **{f"RERANK_WORKER_{name}": value for name, value in settings.items()}}
    process: Process
    if command is None:
        process = ForkedProcess(subcommand, whole, log_path, before)
    else:
        with log_path.open("ab") as log:
            process = subprocess.Popen([sys.executable, *command], env=whole, stdout=log, stderr=subprocess.STDOUT)
    return WorkerProcess(process, f"http://127.0.0.1:{port}", log_path)
