"""The worker as production runs it: the `run` command in a process of its own, configured by its environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.forked_command import ForkedCommand, nothing
from tests.patience import HANG_S
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings

LAST_LINES = 15

# One for all looks, of which tests take thousands: to make one is to read the certificates of this machine. It keeps no
# connection, so that none keeps a worker from its end.
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=HANG_S)


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
            return HTTP.get(f"{self.telemetry}/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        return self.metrics(name)[0]

    def metrics(self, *names: str) -> list[float]:
        """The sum of each metric's samples, all of one moment."""
        sums = dict.fromkeys(names, 0.0)
        for family in text_string_to_metric_families(HTTP.get(f"{self.telemetry}/metrics").text):
            for sample in family.samples:
                if sample.name in sums:
                    sums[sample.name] += sample.value
        return list(sums.values())

    def describe(self) -> str:
        """Its own progress and the end of its log."""
        try:
            progress = HTTP.get(f"{self.telemetry}/progress", timeout=30).text
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
    arguments: Sequence[str] = (),
    command: Sequence[str] | None = None,
    before: Callable[[], None] = nothing,
    **environment: str,
) -> WorkerProcess:
    """Start a worker with the offline models; ``environment`` has settings without their prefix. It does not wait.

    ``subcommand``: `run` or `index`, with its ``arguments``. ``command``: what Python runs in its stead. ``before``: a
    module's function, called in its process first.
    """
    port = free_port()
    settings = {
        "MODELS": "offline",
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__QUERY_TOPIC": kafka.query_topic,
        "KAFKA__ANSWER_TOPIC": kafka.answer_topic,
        "KAFKA__DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
        # Empty is not set.
        "KAFKA__CONTEXTS_TOPIC": kafka.contexts_topic or "",
        "KAFKA__GROUP_ID": kafka.group_id,
        "KAFKA__DOCUMENTS_TOPIC": kafka.documents_topic,
        "KAFKA__DOCUMENTS_DEAD_LETTER_TOPIC": kafka.documents_dead_letter_topic,
        "KAFKA__DOCUMENTS_GROUP_ID": kafka.documents_group_id,
        "KAFKA__COMMIT_INTERVAL_S": str(kafka.commit_interval_s),
        "KAFKA__SESSION_TIMEOUT_S": str(kafka.session_timeout_s),
        # A busy machine is no reason to leave work behind; nor is it one to be killed for.
        "KAFKA__DRAIN_TIMEOUT_S": str(HANG_S),
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
        process = ForkedCommand(subcommand, *arguments, environment=whole, out=log_path, err=log_path, before=before)
    else:
        with log_path.open("ab") as log:
            process = subprocess.Popen([sys.executable, *command], env=whole, stdout=log, stderr=subprocess.STDOUT)
    return WorkerProcess(process, f"http://127.0.0.1:{port}", log_path)
