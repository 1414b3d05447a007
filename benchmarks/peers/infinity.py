"""infinity, the server most used for rerankers in Python: in an environment of its own, asked over HTTP.

Its newest release needs a transformers too old for the worker: ``infinity-requirements.txt`` pins what runs together.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.peers.base import Padding, Scores, Setting, UnavailableError
from benchmarks.peers.exported import onnx_folder
from benchmarks.workload import Asked

REQUIREMENTS = Path(__file__).with_name("infinity-requirements.txt")
# It warms up with batches of its own before it listens; on busy cores that takes a minute.
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 20.0
REQUEST_TIMEOUT_S = 300.0
# None of its requests may leave this machine, and it must not count who runs it.
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}


# Engine: its torch. The first is the worker's own. ONNX Runtime does the other's work; optimum imports from torch what
# later ones have moved (`cannot import name '_attention_scale' from 'torch.onnx.symbolic_opset14'`).
TORCH = {"torch": "2.13.0", "optimum": "2.8.0"}


def environment(cache: Path, engine: str) -> Path:
    """Return the python of an environment with infinity, made with uv if need be. Blocks for minutes the first time."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise UnavailableError("uv is not installed: `make setup` brings it, or give --infinity-python")
    folder = cache / f"infinity-{engine}"
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([uv, "venv", "--quiet", "--python", "3.11", str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python), f"torch=={TORCH[engine]}"]
        # From elsewhere: in this repository uv holds everyone to the worker's own torch.
        subprocess.run([*install, "--requirement", str(REQUIREMENTS.absolute())], check=True, cwd=cache)
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"its environment can't be made: {error}") from error
    return python


def _why(log: Path) -> str:
    """Return the error a server ended with: its last line says only that it did."""
    lines = log.read_text().strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if "Error" in line.partition(":")[0]]
    return (errors or lines)[-1]


class Infinity:
    """A server of its own, all queries at once over HTTP, one request a query."""

    precision = "float32"

    def __init__(self, setting: Setting, python: Path, engine: str) -> None:
        """Start the server and wait until it listens. UnavailableError with the end of its log if it does not."""
        self.name = f"infinity, {engine} engine, over HTTP"
        folder = onnx_folder(setting) if engine == "optimum" else setting.folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._log = setting.cache / f"infinity-{engine}.log"
        threads = str(setting.threads)
        # It keeps what it optimised by the model's name, which is `.` for all: a folder each.
        home = str(setting.cache / f"infinity-home-{folder.name}")
        command = [str(python.absolute().with_name("infinity_emb")), "v2", "--host", "127.0.0.1", "--port", str(port)]
        # From within the folder: of a local one it hands optimum the file's whole path, which that refuses.
        command += [
            "--model-id",
            ".",
            "--served-model-name",
            "benchmark",
            "--engine",
            engine,
            "--device",
            setting.device.partition(":")[0],
        ]
        # Its default transformation was dropped by the libraries it comes from. Whether it would gain was not measured.
        command += ["--no-bettertransformer", "--log-level", "warning"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ
                | QUIET
                | {"PYTHONPATH": "", "HF_HOME": home, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            )
        try:
            self._await_listening()
        except BaseException:
            self.close()
            raise

    def score(self, queries: Sequence[Asked]) -> Scores:
        return asyncio.run(self._all(queries))

    async def _all(self, queries: Sequence[Asked]) -> Scores:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False) as client:
            return list(await asyncio.gather(*(self._one(client, asked) for asked in queries)))

    async def _one(self, client: httpx.AsyncClient, asked: Asked) -> list[float]:
        body = {"query": asked.query.text, "documents": asked.texts, "raw_scores": True}
        response = await client.post(f"{self._url}/rerank", json=body)
        response.raise_for_status()
        scores = {each["index"]: float(each["relevance_score"]) for each in response.json()["results"]}
        return [scores[index] for index in range(len(asked.texts))]

    def padding(self) -> Padding | None:
        return None

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await_listening(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                if httpx.get(f"{self._url}/health", trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise UnavailableError(f"its server did not start: {_why(self._log)}")
