"""Chroma's real server, from the wheel that brings its client."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from worker.local.process import ServerProcess, free_port

# A start takes seconds, and minutes where everything else on the machine starts too.
START_TIMEOUT_S = 180.0
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class LocalChroma:
    """Where a local Chroma server listens."""

    host: str
    port: int


@contextmanager
def local_chroma(data_dir: Path, *, port: int | None = None) -> Iterator[LocalChroma]:
    """Run a Chroma server on ``data_dir`` (kept, reused). Blocks until it answers; FatalError if it does not."""
    port = port or free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    chroma = Path(sys.executable).with_name("chroma")
    with ServerProcess(
        "Chroma",
        [str(chroma), "run", "--host", HOST, "--port", str(port), "--path", str(data_dir)],
        log_path=data_dir / "chroma.log",
        environment={"ANONYMIZED_TELEMETRY": "False"},
    ) as server:
        # One client for all looks: to make one is to read the certificates of this machine.
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=1.0) as client:
            server.await_ready(lambda: _answers(client), timeout_s=START_TIMEOUT_S)
        yield LocalChroma(HOST, port)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api/v2/heartbeat").is_success
    except httpx.TransportError:
        return False
