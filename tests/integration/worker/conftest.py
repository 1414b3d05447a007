"""The worker as production runs it: the `run` command in a process of its own, configured by its environment."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.ingest.documents import Document
from worker.ingest.run import ingest
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings, Settings

COLLECTION = "worker-tests"
READY_TIMEOUT_S = 120.0

TEXTS = {
    "permissions": "Debezium's MySQL connector needs a dedicated replication user with REPLICATION SLAVE privileges.",
    "groups": "Kafka consumer groups distribute partition reads across multiple consumers.",
    "paris": "Paris is the capital and most populous city of France.",
}


@dataclass
class WorkerProcess:
    process: "subprocess.Popen[bytes]"
    telemetry: str
    log_path: Path

    def await_ready(self) -> "WorkerProcess":
        settled = await_condition(lambda: self.ended or self.is_ready, timeout_s=READY_TIMEOUT_S)
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

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="session")
def collection(chroma_server: LocalChroma) -> RecallSettings:
    """A small collection on the real server, embedded by the real offline model."""
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection=COLLECTION)
    documents = [Document(id=name, text=text, source="tests", origin=name) for name, text in TEXTS.items()]
    ingest(documents, settings=Settings(models="offline", recall=recall))
    return recall


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers; ends those that the test leaves running."""
    started: list[WorkerProcess] = []

    def start(kafka: KafkaSettings, recall: RecallSettings, **environment: str) -> WorkerProcess:
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
        log_path = tmp_path / f"worker-{len(started)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker.cli", "run"],
                env={**os.environ, **{f"RERANK_WORKER_{name}": value for name, value in settings.items()}},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        worker = WorkerProcess(process, f"http://127.0.0.1:{port}", log_path)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if not worker.ended:
            worker.process.kill()
            worker.process.wait(10)
