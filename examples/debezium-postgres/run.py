"""PostgreSQL → Debezium → Kafka → `rerank-worker index` → answers: `python examples/debezium-postgres/run.py`."""

import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psycopg
from connect import resolve_jars, running_connector
from postgres import lacking, running_postgres
from story import Step, Story, write_first_rows

from worker.app.stopping import STOP_SIGNALS, interruptible
from worker.client import QueryClient
from worker.demo.setup import settings_with
from worker.errors import WorkerError
from worker.kafka.admin.topics import ensure, index_topics
from worker.local.jars import missing_tools
from worker.local.process import ServerProcess, free_port
from worker.local.scratch import scratch_folder
from worker.local.stack import StackChoice, running_stack
from worker.models.resolve import resolve
from worker.settings import ENV_PREFIX, Settings
from worker.settings.kafka import for_documents
from worker.telemetry.logs import quiet_commands

NAME = "debezium-postgres"
# The connector's topic.prefix, and its table.
DOCUMENTS_TOPIC = "shop.public.docs"
# Loading torch and two models from a cold disk, on a machine that has other work to do.
READY_TIMEOUT_S = 600.0

OWN_SETTINGS = {
    "KAFKA__QUERY_TOPIC": f"{NAME}.queries",
    "KAFKA__ANSWER_TOPIC": f"{NAME}.answers",
    "KAFKA__DEAD_LETTER_TOPIC": f"{NAME}.queries.dlq",
    "KAFKA__GROUP_ID": NAME,
    "RECALL__COLLECTION": NAME,
    # Quotations instead of an LLM's words: what changes in a row is to be seen in the answer.
    "ANSWER__BASE_URL": "",
    "ANSWER__MODEL": "",
    "TELEMETRY__HOST": "127.0.0.1",
}
INDEX_SETTINGS = {
    "KAFKA__DOCUMENTS_TOPIC": DOCUMENTS_TOPIC,
    "KAFKA__DOCUMENTS_DEAD_LETTER_TOPIC": f"{DOCUMENTS_TOPIC}.dlq",
    "KAFKA__DOCUMENTS_GROUP_ID": f"{NAME}.index",
    "INDEX__EVENTS": "debezium",
    "INDEX__TEXT": r"{title}\n{body}",
    "INDEX__TITLE": "{title}",
    "INDEX__METADATA": "lang,updated",
}


@dataclass(frozen=True, slots=True)
class Running:
    """Everything, running."""

    settings: Settings
    """Of the workers."""
    database: "psycopg.Connection[tuple[object, ...]]"
    client: QueryClient

    def story(self) -> Story:
        """Return the story, to be told here."""
        return Story(self.database, self.client, for_documents(self.settings.kafka))


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Running]:
    """Start what the story needs, with its first rows, and end it again. Blocks; FatalError.

    ``settings``: where jars are kept and models come from. ``folder`` gets the logs and what the servers store.
    """
    with ExitStack() as parts:
        # Each takes seconds, most of them spent waiting. Waited for in here: Ctrl-C ends none while others start.
        with ThreadPoolExecutor(thread_name_prefix="starting") as starting:
            stack_started = starting.submit(_start_stack, parts, settings, folder)
            database_started = starting.submit(
                parts.enter_context, running_postgres(settings.cache_dir, folder / "postgres.log")
            )
            starting.submit(resolve_jars, settings.cache_dir).result()
            variables, database = stack_started.result(), database_started.result()
        connection = parts.enter_context(database.connect())
        write_first_rows(connection)
        configured = settings_with(variables)
        documents = for_documents(configured.kafka)
        ensure(documents, create=True, names=index_topics(documents))
        probe = parts.enter_context(httpx.Client(timeout=5.0))
        workers = [_start_worker(parts, command, settings, variables, folder) for command in ("run", "index")]
        parts.enter_context(
            running_connector(settings.cache_dir, folder / "connect", documents.bootstrap_servers, database)
        )
        for worker, address in workers:
            worker.await_ready(partial(_ready, probe, address), timeout_s=READY_TIMEOUT_S)
        yield Running(configured, connection, parts.enter_context(QueryClient(configured.kafka)))


def _start_stack(parts: ExitStack, settings: Settings, folder: Path) -> dict[str, str]:
    """Start Kafka and Chroma; return the workers' settings as environment variables."""
    own = {f"{ENV_PREFIX}{name}": value for name, value in (OWN_SETTINGS | INDEX_SETTINGS).items()}
    # What is too far from a question is no context for it: then the answer says that there is none.
    if (min_score := resolve("cross-encoder", settings).min_score) is not None:
        own[f"{ENV_PREFIX}RERANK__MIN_SCORE"] = str(min_score)
    stack = parts.enter_context(running_stack(settings_with(own), folder, StackChoice(llm=False)))
    return stack.environment() | own


def _start_worker(
    parts: ExitStack, command: str, settings: Settings, variables: Mapping[str, str], folder: Path
) -> tuple[ServerProcess, str]:
    """Start `run` or `index` without waiting; return it and its telemetry's address."""
    port = free_port()
    environment = {**variables, f"{ENV_PREFIX}TELEMETRY__PORT": str(port), f"{ENV_PREFIX}MODELS": settings.models}
    server = ServerProcess(
        f"rerank-worker {command}",
        [sys.executable, "-m", "worker.cli.main", command],
        log_path=folder / f"{command}.log",
        environment=environment,
    )
    return parts.enter_context(server), f"http://127.0.0.1:{port}"


def _ready(probe: httpx.Client, address: str) -> bool:
    try:
        return probe.get(f"{address}/ready").is_success
    except httpx.TransportError:
        return False


def _printed(step: Step) -> str:
    # Where nothing was changed there is no time to tell.
    done = [f"  {step.sql};", f"  {step.seconds:.1f} s later:"] if step.sql else []
    return "\n".join(["", step.said, *done, f"  {step.found}"])


def main() -> None:
    """Tell the story on a terminal."""
    if lack := missing_tools() or lacking():
        raise SystemExit(f"error: not on this machine: {lack}")
    quiet_commands()
    begun_s = time.monotonic()
    ended = interruptible(
        *STOP_SIGNALS, ending=lambda number: SystemExit(128 + number), say=lambda: print("Stopping everything …")
    )
    try:
        with scratch_folder(NAME) as folder, ended:
            print("Starting PostgreSQL, Kafka, Kafka Connect with Debezium, Chroma, `run` and `index` …", flush=True)
            with running(Settings(), folder) as place:
                print(f"... after {time.monotonic() - begun_s:.0f} s all of it runs.", flush=True)
                for step in place.story().steps():
                    print(_printed(step), flush=True)
    except WorkerError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"\nEverything is stopped, after {time.monotonic() - begun_s:.0f} s in all.")


if __name__ == "__main__":
    main()
