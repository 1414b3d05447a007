"""`rerank-worker demo`: the whole stack, real questions through Kafka, what reranking did to them."""

import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from rich.console import Console

from schemas.events import AnswerEvent, QueryEvent
from worker.app.stopping import STOP_SIGNALS, interruptible
from worker.cli.render import print_answer
from worker.client import QueryClient
from worker.demo.gain import gain
from worker.demo.latencies import latency_table, stage_quantiles
from worker.demo.setup import NAME, own_variables, settings_with
from worker.documents.samples.corpus import Question, questions
from worker.errors import FatalError
from worker.local.broker import LocalBroker
from worker.local.process import ServerProcess
from worker.local.scratch import scratch_folder
from worker.local.stack import StackChoice, StackState, running_stack
from worker.models.resolve import ResolvedModel, resolve
from worker.settings import ENV_PREFIX, Settings

# The first three show what reranking does, the fourth that it does not always; the table of the sample corpus, and the
# line at the end, how often. The last has no answer in the corpus.
SHOWN = ("q02", "q04", "q05", "q01", "q41")
# Loading torch and two models from a cold disk, on a machine that has other work to do.
READY_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 120.0
# Empty is as good as not set, and takes the place of an endpoint of the user's own.
WITHOUT_LLM = {f"{ENV_PREFIX}ANSWER__{name}": "" for name in ("BASE_URL", "MODEL")}


def run_demo(settings: Settings, console: Console) -> None:
    """Run the demo and leave nothing behind. Blocks for about a minute; FatalError says what failed and where logs are.

    For the main thread: it takes SIGTERM and SIGINT for itself, and ends as cleanly at them.
    """
    started_s = time.monotonic()
    console.rule("[bold]rerank-worker demo")
    stoppable = interruptible(*STOP_SIGNALS, ending=_ending, say=_say_stopping)
    with scratch_folder(NAME) as data_dir, stoppable:
        _show(settings, console, data_dir)
    _say(
        console,
        f"The workers drained and everything is stopped, after {time.monotonic() - started_s:.0f} s in all.",
    )
    console.print(
        "\nWhere to go next\n"
        '  eval "$(rerank-worker local up)"   this stack, in the background\n'
        "  rerank-worker ingest PATH          your own documents\n"
        "  rerank-worker run                  the worker: start as many as you like\n"
        '  rerank-worker ask "your question"  one question through Kafka\n'
        "  rerank-worker evaluate --help      whether reranking is worth it on yours\n"
        "  README.md                          how to run and scale it in production",
        highlight=False,
    )


def _show(settings: Settings, console: Console, data_dir: Path) -> None:
    _say(console, "Starting Kafka, Chroma and a local LLM …")
    # Importing torch takes as long as the servers take to start.
    threading.Thread(target=_import_models, daemon=True).start()
    models = (resolve("embedding", settings), resolve("cross-encoder", settings))
    quoting = own_variables(models[1])
    writing = own_variables(models[1], name=f"{NAME}-llm")
    with running_stack(settings_with(quoting), data_dir, StackChoice(), others=[settings_with(writing).kafka]) as stack:
        _introduce(console, stack, models)
        quoting |= stack.environment() | WITHOUT_LLM
        writing |= stack.environment()
        with ExitStack() as workers:
            # One for all looks: to make one is to read the certificates of this machine.
            probe = workers.enter_context(httpx.Client(timeout=1.0))
            worker = _start_worker(workers, quoting, data_dir / "worker.log")
            _say(console, "Indexing the sample corpus while the worker starts (`rerank-worker run`) …")
            _index(settings_with(quoting), console)
            worker.await_ready(lambda: _ready(probe, quoting), timeout_s=READY_TIMEOUT_S)
            # Started now, it is ready when its turn comes.
            writer = _start_worker(workers, writing, data_dir / "worker-llm.log")
            _ask(quoting, console)
            _say(console, "The first question once more, to a worker that has the LLM write the answer …")
            writer.await_ready(lambda: _ready(probe, writing), timeout_s=READY_TIMEOUT_S)
            with QueryClient(settings_with(writing).kafka) as client:
                _ask_one(client, console, _shown()[0], candidates=False)
            exit_codes = [worker.stop(), writer.stop()]
        if any(exit_codes):
            raise FatalError(f"a worker did not drain: they ended with exit codes {exit_codes}")


def _start_worker(workers: ExitStack, variables: Mapping[str, str], log_path: Path) -> ServerProcess:
    command = [sys.executable, "-m", "worker.cli.main", "run"]
    # However the demo ends, its workers end with it.
    return workers.enter_context(ServerProcess("The worker", command, log_path=log_path, environment=variables))


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


def _ask(variables: Mapping[str, str], console: Console) -> None:
    shown = _shown()
    _say(console, f"Asking {len(shown)} questions through Kafka, one after the other …")
    with QueryClient(settings_with(variables).kafka) as client:
        answers = [_ask_one(client, console, question) for question in shown]
        console.print(latency_table(stage_quantiles(f"{_telemetry(variables)}/metrics")))
        others = [question for question in questions() if question.relevant and question not in shown]
        _say(console, f"Asking {len(others)} more at once: their pairs share micro-batches …")
        begun_s = time.monotonic()
        events = [_event(question).model_copy(update={"generate": False}) for question in others]
        answers += client.ask_all(events, timeout_s=ANSWER_TIMEOUT_S)
        seconds = time.monotonic() - begun_s
    console.print(f"  contexts for {len(others)} questions in {seconds:.1f} s", highlight=False)
    try:
        _say(console, f"Was it worth it? {gain(questions(), answers)}.")
    except FatalError as missing:
        _say(console, f"Whether it was worth it is not told: {missing}")


def _ask_one(client: QueryClient, console: Console, question: Question, *, candidates: bool = True) -> AnswerEvent:
    with console.status(question.text):
        answer = client.ask(_event(question, candidates=candidates), timeout_s=ANSWER_TIMEOUT_S)
    print_answer(console, answer)
    return answer


def _event(question: Question, *, candidates: bool = True) -> QueryEvent:
    return QueryEvent(id=f"{question.id}-{uuid.uuid4()}", text=question.text, include_candidates=candidates)


def _shown() -> list[Question]:
    by_id = {question.id: question for question in questions()}
    return [by_id[name] for name in SHOWN]


def _telemetry(variables: Mapping[str, str]) -> str:
    telemetry = settings_with(variables).telemetry
    return f"http://{telemetry.host}:{telemetry.port}"


def _ready(probe: httpx.Client, variables: Mapping[str, str]) -> bool:
    try:
        return probe.get(f"{_telemetry(variables)}/ready").is_success
    except httpx.TransportError:
        return False


def _ending(number: int) -> BaseException:
    return SystemExit(128 + number)


def _say_stopping() -> None:
    # Servers that are just starting are waited for: seconds in which nothing else would seem to happen.
    Console(stderr=True).print("Stopping everything …")


def _say(console: Console, what: str) -> None:
    console.print(f"[bold cyan]▸[/bold cyan] {what}", highlight=False)
