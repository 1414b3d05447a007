"""The whole embedded stack: broker, vector store and LLM, as a context or as a background process.

``rerank-worker local up`` starts this module as a supervisor with a session of its own; the servers are its children
and end with it. Its state file says where everything is.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from worker.errors import FatalError
from worker.kafka.admin.topics import ensure, worker_topics
from worker.local.broker import Kind, LocalBroker, local_broker
from worker.local.chroma import local_chroma
from worker.local.kafka import RESOLVE_TIMEOUT_S, START_TIMEOUT_S
from worker.local.llm import LocalLlm, local_llm
from worker.local.process import TAIL_LINES, await_condition
from worker.models import packages as offline_models
from worker.settings import Settings

# Fetching Kafka's jars, then its start, with an address taken meanwhile tried again.
UP_TIMEOUT_S = RESOLVE_TIMEOUT_S + 3 * START_TIMEOUT_S
DOWN_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class StackState:
    """Where the parts of a running stack are."""

    pid: int
    kafka: str
    kafka_kind: Kind
    chroma_host: str
    chroma_port: int
    llm_base_url: str | None
    llm_model: str | None
    data_dir: str

    def environment(self) -> dict[str, str]:
        """Return the settings, as environment variables, of a worker that uses this stack."""
        settings = {
            "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "RERANK_WORKER_RECALL__MODE": "server",
            "RERANK_WORKER_RECALL__HOST": self.chroma_host,
            "RERANK_WORKER_RECALL__PORT": str(self.chroma_port),
        }
        if self.kafka_kind == "mock":
            # The mock settles a classic group in 10 to 15 s, a KIP-848 one at once.
            settings["RERANK_WORKER_KAFKA__GROUP_PROTOCOL"] = "consumer"
        if self.llm_base_url is not None and self.llm_model is not None:
            settings["RERANK_WORKER_ANSWER__BASE_URL"] = self.llm_base_url
            settings["RERANK_WORKER_ANSWER__MODEL"] = self.llm_model
        return settings


@contextmanager
def running_stack(settings: Settings, data_dir: Path, *, llm: bool = True) -> Iterator[StackState]:
    """Run every server on ``data_dir``, create the worker's topics, yield where things are. Blocks; FatalError."""
    # Each takes seconds, most of them spent waiting: they start side by side and end one after the other.
    with ExitStack() as servers:
        with ThreadPoolExecutor(thread_name_prefix="starting") as starting:
            broker_started = starting.submit(_start_broker, servers, settings, data_dir)
            chroma_started = starting.submit(servers.enter_context, local_chroma(data_dir / "chroma"))
            llm_started = starting.submit(_start_llm, servers, data_dir) if llm else None
            # Waited for in here, so that Ctrl-C ends no server before the start of all is over.
            broker, chroma = broker_started.result(), chroma_started.result()
            endpoint = None if llm_started is None else llm_started.result()
        yield StackState(
            pid=os.getpid(),
            kafka=broker.bootstrap_servers,
            kafka_kind=broker.kind,
            chroma_host=chroma.host,
            chroma_port=chroma.port,
            llm_base_url=None if endpoint is None else endpoint.base_url,
            llm_model=None if endpoint is None else endpoint.model,
            data_dir=str(data_dir),
        )


def up(settings: Settings) -> StackState:
    """Start the stack in the background, or find it running; return where things are. Blocks; FatalError."""
    running = status(settings)
    if running is not None:
        return running
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "supervisor.log"
    with log_path.open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "worker.local.stack"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    await_condition(lambda: supervisor.poll() is not None or status(settings) is not None, timeout_s=UP_TIMEOUT_S)
    state = status(settings)
    if state is None:
        supervisor.terminate()
        tail = log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise FatalError("the local stack did not start:\n  " + "\n  ".join(tail))
    return state


def down(settings: Settings) -> bool:
    """End the background stack and wait for it; False if none was running. FatalError if it does not end."""
    state = status(settings)
    if state is None:
        return False
    os.kill(state.pid, signal.SIGTERM)
    if not await_condition(lambda: not _alive(state.pid), timeout_s=DOWN_TIMEOUT_S):
        raise FatalError(f"the local stack (process {state.pid}) did not end within {DOWN_TIMEOUT_S:g} s")
    return True


def status(settings: Settings) -> StackState | None:
    """Return where the background stack's parts are; None if it is not running, whatever an old state file says."""
    try:
        state = StackState(**json.loads(_state_file(settings).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if _alive(state.pid) else None


def _folder(settings: Settings) -> Path:
    return settings.cache_dir.expanduser() / "local"


def _state_file(settings: Settings) -> Path:
    return _folder(settings) / "state.json"


def _alive(pid: int) -> bool:
    """Whether this process is a stack's supervisor: a number alone may be another program's by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"worker.local.stack" in command


def _start_broker(servers: ExitStack, settings: Settings, data_dir: Path) -> LocalBroker:
    topics = worker_topics(settings.kafka)
    broker = servers.enter_context(local_broker(settings.cache_dir, data_dir / "kafka", mock_topics=topics))
    if broker.kind != "mock":
        ensure(settings.kafka.model_copy(update={"bootstrap_servers": broker.bootstrap_servers}), create=True)
    return broker


def _start_llm(servers: ExitStack, data_dir: Path) -> LocalLlm:
    return servers.enter_context(
        local_llm(offline_models.llm_file(), offline_models.LLM_NAME, data_dir / "llm"),
    )


def supervise(settings: Settings) -> None:
    """Run the stack until SIGTERM or SIGINT, which end it at any point of its start too."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not a blocked signal and sigwait(): the servers would inherit the mask and never hear of their end.
        signal.signal(number, _exit)
    path = _state_file(settings)
    with running_stack(settings, _folder(settings)) as state:
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(state), indent=1))
        scratch.rename(path)
        try:
            signal.pause()
        finally:
            path.unlink(missing_ok=True)


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        supervise(Settings())
    except FatalError as failure:
        raise SystemExit(f"error: {failure}") from failure
