"""A real Chroma server of these tests' own, to stop, kill and start again."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.patience import HANG_S
from worker.local.process import await_condition
from worker.settings import RecallSettings


@dataclass
class ChromaProcess:
    """`chroma run` on a port and a folder that outlive its process."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        chroma = Path(sysconfig.get_path("scripts")) / "chroma"
        self.process = subprocess.Popen(
            [sys.executable, chroma, "run", "--path", self.folder, "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
        )
        with httpx.Client(base_url=f"http://localhost:{self.port}", timeout=5) as client:
            assert await_condition(lambda: self._answers(client), timeout_s=HANG_S)

    def _answers(self, client: httpx.Client) -> bool:
        try:
            return client.get("/api/v2/heartbeat").is_success
        except httpx.HTTPError:
            return False

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=HANG_S)
            self.process = None


@pytest.fixture(scope="module")
def chroma_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaProcess]:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    server = ChromaProcess(port, tmp_path_factory.mktemp("served"))
    yield server
    server.kill()


@pytest.fixture
def chroma(chroma_process: ChromaProcess) -> ChromaProcess:
    """The server, which runs again whatever the test before has done to it."""
    if chroma_process.ended:
        chroma_process.start()
    return chroma_process


@pytest.fixture
def served(chroma: ChromaProcess) -> RecallSettings:
    return RecallSettings(host="localhost", port=chroma.port, timeout_s=HANG_S, top_k=5)
