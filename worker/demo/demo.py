"""`rerank-worker demo`: the whole stack, real questions through Kafka, what reranking did to them."""

import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from schemas.events import QueryEvent
from worker.app.stopping import STOP_SIGNALS, interruptible
from worker.cli.render import print_answer
from worker.client import QueryClient
from worker.demo.latencies import latency_table, stage_quantiles
from worker.demo.setup import own_variables, settings_with
from worker.documents.samples.corpus import Question, questions
from worker.errors import FatalError, WorkerError
from worker.local.broker import LocalBroker
from worker.local.process import ServerProcess
from worker.local.stack import StackChoice, StackState, running_stack
from worker.models.resolve import ResolvedModel, resolve
from worker.settings import Settings

ANSWERABLE = 5
UNANSWERABLE = 1
# Loading torch and two models from a cold disk.
READY_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 120.0


def run_demo(settings: Settings, console: Console) -> None:
    """Run the demo and leave nothing behind. Blocks for about a minute; FatalError says what failed and where logs are.

    For the main thread: it takes SIGTERM and SIGINT for itself, and ends as cleanly at them.
    """
    started_s = time.monotonic()
    console.rule("[bold]rerank-worker demo")
    stoppable = interruptible(*STOP_SIGNALS, ending=_ending, say=_say_stopping)
    with _scratch() as data_dir, stoppable:
        _show(settings, console, data_dir)
    _say(
        console,
        f"The worker drained and everything is stopped, after {time.monotonic() - started_s:.0f} s in all.",
    )
    console.print(
        "\nWhere to go next\n"
        '  eval "$(rerank-worker local up)"   this stack, in the background\n'
        "  rerank-worker ingest PATH          your own documents\n"
        "  rerank-worker run                  the worker: start as many as you like\n"
        '  rerank-worker ask "your question"  one question through Kafka\n'
        "  README.md                          how to run and scale it in production",
        highlight=False,
    )


def _show(settings: Settings, console: Console, data_dir: Path) -> None:
    _say(console, "Starting Kafka, Chroma and a local LLM …")
    # Importing torch takes as long as the servers take to start.
    threading.Thread(target=_import_models, daemon=True).start()
    models = (resolve("embedding", settings), resolve("cross-encoder", settings))
    variables = own_variables(cross_encoder=models[1])
    with running_stack(settings_with(variables), data_dir, StackChoice()) as stack:
        _introduce(console, stack, models)
        variables |= stack.environment()
        settings = settings_with(variables)
        command = [sys.executable, "-m", "worker.cli.main", "run"]
        # However the demo ends, its worker ends with it.
        with ServerProcess("The worker", command, log_path=data_dir / "worker.log", environment=variables) as worker:
            _say(console, "Indexing the sample corpus while the worker starts (`rerank-worker run`) …")
            _index(settings, console)
            telemetry = f"http://{settings.telemetry.host}:{settings.telemetry.port}"
            worker.await_ready(lambda: _ready(telemetry), timeout_s=READY_TIMEOUT_S)
            _ask(settings, console)
            console.print(latency_table(stage_quantiles(f"{telemetry}/metrics")))
            exit_code = worker.stop()
        if exit_code != 0:
            raise FatalError(f"the worker did not drain: it ended with exit code {exit_code}")


def _import_models() -> None:
    import worker.documents.files.ingest  # noqa: F401, PLC0415 - only to have it imported; see the caller


def _index(settings: Settings, console: Console) -> None:
    from worker.documents.files.ingest import ingest_with_progress  # noqa: PLC0415 - it imports torch

    ingest_with_progress(settings, console, found=None, sample="demo", collection=None, skip_rejected=False)


def _introduce(console: Console, stack: StackState, models: Sequence[ResolvedModel]) -> None:
    told: dict[str, str] = {
        "broker": LocalBroker(stack.kafka, stack.kafka_kind).description,
        **{str(model.role): f"{model.name} ({model.source})" for model in models},
        "LLM": f"{stack.llm_model} by llama.cpp: tiny, expect weak answers",
    }
    for what, which in told.items():
        console.print(f"  {what:<14} {which}", highlight=False)


def _ask(settings: Settings, console: Console) -> None:
    asked = _chosen()
    _say(console, f"Asking {len(asked)} questions through Kafka, one after the other …")
    with QueryClient(settings.kafka) as client:
        for question in asked:
            event = QueryEvent(id=f"{question.id}-{uuid.uuid4()}", text=question.text, include_candidates=True)
            with console.status(question.text):
                answer = client.ask(event, timeout_s=ANSWER_TIMEOUT_S)
            print_answer(console, answer)


def _chosen() -> list[Question]:
    answerable = [question for question in questions() if question.relevant]
    unanswerable = [question for question in questions() if not question.relevant]
    return answerable[:ANSWERABLE] + unanswerable[:UNANSWERABLE]


def _ready(telemetry: str) -> bool:
    try:
        return httpx.get(f"{telemetry}/ready", timeout=1.0).is_success
    except httpx.TransportError:
        return False


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder of this run's own; it is kept, and named, only if something failed."""
    folder = Path(tempfile.mkdtemp(prefix="rerank-worker-demo-"))
    try:
        yield folder
    except WorkerError as error:
        raise FatalError(f"{error}\nThe logs are in {folder}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _ending(number: int) -> BaseException:
    return SystemExit(128 + number)


def _say_stopping() -> None:
    # Servers that are just starting are waited for: seconds in which nothing else would seem to happen.
    Console(stderr=True).print("Stopping everything …")


def _say(console: Console, what: str) -> None:
    console.print(f"[bold cyan]▸[/bold cyan] {what}", highlight=False)
