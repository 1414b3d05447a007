"""`rerank-worker demo`: the whole stack, real questions through Kafka, what reranking did to them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from schemas.events import QueryEvent
from worker.client import QueryClient
from worker.demo.corpus import questions
from worker.demo.latencies import stage_quantiles
from worker.demo.report import latency_table, print_answer
from worker.errors import FatalError
from worker.ingest.command import ingest_with_progress
from worker.local.broker import LocalBroker
from worker.local.process import TAIL_LINES, await_condition, free_port
from worker.local.stack import StackState, running_stack
from worker.models import resolve
from worker.settings import Settings

ASKED = 6
COLLECTION = "rerank-worker-demo"
# Loading torch and two models from a cold disk.
READY_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 120.0
DRAIN_TIMEOUT_S = 45.0

# Measured on this corpus (see demo/README.md): above the off-topic questions, below all but one answerable one. For the
# offline cross-encoder only: another model's scores have another scale.
OFFLINE_MIN_SCORE = 0.0


def run_demo(settings: Settings, console: Console) -> None:
    """Run the demo and leave nothing behind. Blocks for about a minute; FatalError says what failed."""
    started_s = time.monotonic()
    console.rule("[bold]rerank-worker demo")
    with tempfile.TemporaryDirectory(prefix="rerank-worker-demo-") as scratch:
        data_dir = Path(scratch)
        _say(console, "starting Kafka, Chroma and a local LLM")
        with running_stack(settings, data_dir) as state:
            demo_settings = _configured(settings, state)
            _introduce(console, state, demo_settings)
            ingest_with_progress(demo_settings, console, paths=[], sample="demo", collection=None, skip_rejected=False)
            _say(console, "starting the worker: `rerank-worker run`, in a process of its own")
            with _worker(demo_settings, state, data_dir) as telemetry:
                _ask(console, demo_settings)
                console.print(latency_table(stage_quantiles(f"{telemetry}/metrics")))
    _say(console, f"the worker drained and everything is stopped, after {time.monotonic() - started_s:.0f} s")
    console.print(
        "\nWhere to go next\n"
        "  rerank-worker local up             this stack, in the background\n"
        "  rerank-worker ingest PATH          your own documents\n"
        '  rerank-worker ask "your question"  one question through Kafka\n'
        "  README.md                          how to run and scale it in production\n",
        highlight=False,
    )


def _configured(settings: Settings, state: StackState) -> Settings:
    """Return the user's settings with the stack's addresses and what the demo needs."""
    cross_encoder = resolve("cross-encoder", settings)
    min_score = OFFLINE_MIN_SCORE if cross_encoder.source == "bundled" else settings.rerank.min_score
    host, port = state.chroma_host, state.chroma_port
    kafka = {"bootstrap_servers": state.kafka, "group_id": "rerank-worker-demo"}
    if state.kafka_kind == "mock":
        kafka["group_protocol"] = "consumer"
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update=kafka),
            "recall": settings.recall.model_copy(
                update={"mode": "server", "host": host, "port": port, "collection": COLLECTION}
            ),
            "rerank": settings.rerank.model_copy(update={"min_score": min_score}),
        }
    )


def _introduce(console: Console, state: StackState, settings: Settings) -> None:
    broker = LocalBroker(state.kafka, state.kafka_kind)
    console.print(f"  broker         {broker.description}", highlight=False)
    for role in ("embedding", "cross-encoder"):
        model = resolve(role, settings)
        console.print(f"  {role:<14} {model.name} ({model.source})", highlight=False)
    console.print(
        f"  LLM            {state.llm_model} by llama.cpp (tiny: expect weak answers)",
        highlight=False,
    )


@contextmanager
def _worker(settings: Settings, state: StackState, data_dir: Path) -> Iterator[str]:
    """Run the production command on the stack; yield its telemetry address; expect it to drain at the end."""
    port = free_port()
    log_path = data_dir / "worker.log"
    environment = {
        **os.environ,
        **state.environment(),
        "RERANK_WORKER_KAFKA__GROUP_ID": settings.kafka.group_id,
        "RERANK_WORKER_RECALL__COLLECTION": settings.recall.collection,
        "RERANK_WORKER_TELEMETRY__HOST": "127.0.0.1",
        "RERANK_WORKER_TELEMETRY__PORT": str(port),
        "RERANK_WORKER_ANSWER__MAX_TOKENS": "80",
    }
    if settings.rerank.min_score is not None:
        environment["RERANK_WORKER_RERANK__MIN_SCORE"] = str(settings.rerank.min_score)
    with log_path.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "run"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the demo, which then ends the worker as production would: with SIGTERM.
            start_new_session=True,
        )
    telemetry = f"http://127.0.0.1:{port}"
    try:
        ready = await_condition(lambda: worker.poll() is not None or _ready(telemetry), timeout_s=READY_TIMEOUT_S)
        if not ready or worker.poll() is not None:
            raise FatalError(f"the worker did not get ready; the end of its log:\n{_tail(log_path)}")
        yield telemetry
    finally:
        exit_code = _end(worker)
    if exit_code != 0:
        raise FatalError(f"the worker ended with exit code {exit_code}; the end of its log:\n{_tail(log_path)}")


def _ask(console: Console, settings: Settings) -> None:
    asked = questions()
    unanswerable = [question for question in asked if not question.relevant]
    chosen = [*[question for question in asked if question.relevant][: ASKED - 1], *unanswerable[:1]]
    events = [QueryEvent(id=f"demo-{question.id}", text=question.text, include_candidates=True) for question in chosen]
    _say(console, f"asking {len(events)} questions on topic {settings.kafka.query_topic}")
    told = "five chosen to show moves, one without an answer; averages in worker/demo/README.md"
    console.print(f"  {told}", highlight=False)
    with QueryClient(settings.kafka) as client:
        client.ask_all(events, timeout_s=ANSWER_TIMEOUT_S, on_answer=lambda answer: print_answer(console, answer))


def _ready(telemetry: str) -> bool:
    try:
        return httpx.get(f"{telemetry}/ready", timeout=1.0).is_success
    except httpx.TransportError:
        return False


def _end(worker: "subprocess.Popen[bytes]") -> int:
    worker.send_signal(signal.SIGTERM)
    try:
        return worker.wait(DRAIN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()


def _tail(log_path: Path) -> str:
    return "\n".join(f"  {line}" for line in log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _say(console: Console, what: str) -> None:
    console.print(f"[bold cyan]▸[/bold cyan] {what}", highlight=False)
