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
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

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
        wait = Retrying(
            stop=stop_after_delay(60),
            wait=wait_fixed(0.1),
            retry=retry_if_exception_type(httpx.HTTPError),
            reraise=True,
        )
        wait(lambda: httpx.get(f"http://localhost:{self.port}/api/v2/heartbeat", timeout=5).raise_for_status())

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
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
