"""A worker that starts obeys SIGTERM and SIGINT at once, whatever it waits for, and never joins the group."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.patience import HANG_S
from tests.worker_process import HTTP, WorkerProcess, start_worker_process
from worker.local.mock_kafka import mock_kafka
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

NOT_THERE = "127.0.0.1:1"
Start = Callable[..., WorkerProcess]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker; what it waits for would take longer than the test may."""
    started: list[WorkerProcess] = []

    def start(bootstrap_servers: str = NOT_THERE, *, chroma_port: int = 1, **options: object) -> WorkerProcess:
        kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
        recall = RecallSettings(host="127.0.0.1", port=chroma_port)
        environment = {"KAFKA__STARTUP_TIMEOUT_S": str(HANG_S), "RECALL__TIMEOUT_S": "60"}
        started.append(start_worker_process(kafka, recall, tmp_path / "worker.log", **environment, **options))
        return started[-1]

    yield start
    for worker in started:
        if not worker.ended:
            worker.kill()


def await_logged(worker: WorkerProcess, what: str) -> None:
    assert await_condition(lambda: worker.ended or what in worker.log_path.read_text(), timeout_s=HANG_S)
    assert what in worker.log_path.read_text(), worker.log_path.read_text()


def await_reason(worker: WorkerProcess, reason: str) -> None:
    def is_told() -> bool:
        try:
            return worker.ended or HTTP.get(f"{worker.telemetry}/ready", timeout=2).json()["reason"] == reason
        except (httpx.TransportError, KeyError):
            return False

    assert await_condition(is_told, timeout_s=HANG_S)
    assert not worker.ended, worker.log_path.read_text()


def ends_well(worker: WorkerProcess, number: signal.Signals) -> None:
    worker.process.send_signal(number)
    assert worker.process.wait(HANG_S) == 0, worker.log_path.read_text()
    assert "consuming" not in worker.log_path.read_text()


@pytest.mark.parametrize(
    ("imported", "number"),
    [("worker.app.stopping", signal.SIGTERM), ("pydantic_settings", signal.SIGINT), ("numpy.linalg", signal.SIGTERM)],
)
def test_while_it_imports(start: Start, imported: str, number: signal.Signals) -> None:
    worker = start(command=("-X", "importtime", "-m", "worker.cli.main", "run"))
    await_logged(worker, f" {imported}\n")
    ends_well(worker, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_no_broker_answers(start: Start, silent: int, number: signal.Signals) -> None:
    worker = start(f"127.0.0.1:{silent}")
    await_reason(worker, "looking for the Kafka topics")
    ends_well(worker, number)
    assert "told to stop while starting" in worker.log_path.read_text()


@pytest.mark.parametrize("reason", ["loading the models", "reaching the vector store"])
def test_while_models_load_and_while_chroma_is_silent(start: Start, tmp_path: Path, silent: int, reason: str) -> None:
    kafka = KafkaSettings()
    topics = [kafka.query_topic, kafka.answer_topic, kafka.dead_letter_topic]
    with mock_kafka(tmp_path, topics, partitions=1) as bootstrap_servers:
        worker = start(bootstrap_servers, chroma_port=silent)
        await_reason(worker, reason)
        ends_well(worker, signal.SIGTERM)


def test_with_the_process_id_1_which_ignores_what_it_has_no_handler_for(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    namespace = [unshare or "", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if unshare is None or subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a namespace of process ids here")
    port = free_port()
    settings = {"TELEMETRY__PORT": port, "KAFKA__BOOTSTRAP_SERVERS": NOT_THERE, "KAFKA__STARTUP_TIMEOUT_S": HANG_S}
    with subprocess.Popen(
        [*namespace, sys.executable, "-m", "worker.cli.main", "run"],
        env={**os.environ, **{f"RERANK_WORKER_{name}": str(value) for name, value in settings.items()}},
        stderr=subprocess.DEVNULL,
    ) as outside:
        try:
            worker = WorkerProcess(outside, f"http://127.0.0.1:{port}", tmp_path / "none.log")
            await_reason_of_pid_1(worker)
            [child] = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            assert outside.wait(HANG_S) == 0
        finally:
            outside.kill()


def await_reason_of_pid_1(worker: WorkerProcess) -> None:
    def is_served() -> bool:
        try:
            return worker.ended or bool(HTTP.get(f"{worker.telemetry}/ready", timeout=2).json())
        except httpx.TransportError:
            return False

    assert await_condition(is_served, timeout_s=HANG_S)
