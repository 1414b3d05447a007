"""A real LLM on this machine: llama.cpp's OpenAI-compatible server, from a wheel, in a process of its own."""

import argparse
import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from worker.errors import FatalError
from worker.local.process import ServerProcess, free_port

HOST = "127.0.0.1"
# A start takes seconds, and minutes where everything else on the machine starts too.
START_TIMEOUT_S = 180.0
# Three passages, the question and the answer; the KV cache of more would only cost memory.
CONTEXT_TOKENS = 4_096
# The cross-encoder has the machine's other cores.
THREADS = 1


@dataclass(frozen=True, slots=True)
class LocalLlm:
    """An OpenAI-compatible endpoint on this machine."""

    base_url: str
    model: str


@contextmanager
def local_llm(model_file: Path, model: str, log_dir: Path, *, port: int | None = None) -> Iterator[LocalLlm]:
    """Serve a GGUF file and yield its endpoint. Blocks until it answers; FatalError if it does not."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise FatalError("the local LLM needs llama.cpp: `pip install 'rerank-worker[llm]'`")
    port = port or free_port()
    arguments = ["--model", str(model_file), "--alias", model, "--port", str(port)]
    with ServerProcess(
        "The local LLM", [sys.executable, "-m", "worker.local.llm", *arguments], log_path=log_dir / "llm.log"
    ) as server:
        # One client for all looks: to make one is to read the certificates of this machine.
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=1.0) as client:
            server.await_ready(lambda: _answers(client), timeout_s=START_TIMEOUT_S)
        yield LocalLlm(f"http://{HOST}:{port}/v1", model)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/models").is_success
    except httpx.TransportError:
        return False


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    import xllamacpp  # noqa: PLC0415 - only this process needs the native library

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()

    stopping = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(arguments.model)
    parameters.model_alias = {arguments.alias}
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = THREADS
    parameters.hostnames = [HOST]
    parameters.port = arguments.port
    server = xllamacpp.Server(parameters)
    signal.sigwait(stopping)
    del server


if __name__ == "__main__":
    main()
