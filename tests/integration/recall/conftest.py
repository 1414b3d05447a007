"""A real Chroma server of one's own, to stop, kill and start again."""

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
        assert await_condition(self._answers, timeout_s=HANG_S)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://localhost:{self.port}/api/v2/heartbeat", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=HANG_S)
            self.process = None


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[ChromaProcess]:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    server = ChromaProcess(port, tmp_path / "served")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def served(chroma: ChromaProcess) -> RecallSettings:
    return RecallSettings(host="localhost", port=chroma.port, timeout_s=2.0, top_k=5)
