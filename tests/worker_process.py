"""The worker as production runs it: the `run` command in a process of its own, configured by its environment."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import HANG_S
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings

LAST_LINES = 15


@dataclass
class WorkerProcess:
    process: "subprocess.Popen[bytes]"
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
    command: Sequence[str] = ("-m", "worker.cli.main", "run"),
    **environment: str,
) -> WorkerProcess:
    """Start a worker with the offline models; ``environment`` has settings without their prefix. It does not wait.

    ``command``: what Python runs.
    """
    port = free_port()
    settings = {
        "MODELS": "offline",
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__QUERY_TOPIC": kafka.query_topic,
        "KAFKA__ANSWER_TOPIC": kafka.answer_topic,
        "KAFKA__DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
        "KAFKA__GROUP_ID": kafka.group_id,
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
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **{f"RERANK_WORKER_{name}": value for name, value in settings.items()}},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return WorkerProcess(process, f"http://127.0.0.1:{port}", log_path)
