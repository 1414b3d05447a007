"""`ask` and `tail` with a real worker at the other end: ingest, run and ask as a user types them."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.forked_command import ForkedCommand, run_command
from tests.patience import HANG_S
from tests.worker_process import WorkerProcess
from worker.kafka.admin.topics import ensure
from worker.local.broker import LocalBroker
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow

DOCUMENTS = {
    "permissions": "Debezium's MySQL connector needs a dedicated replication user with REPLICATION SLAVE privileges.",
    "groups": "Kafka consumer groups distribute partition reads across multiple consumers.",
    "paris": "Paris is the capital and most populous city of France.",
}
QUESTION = "What is the capital of France?"

TELEMETRY_PORT, ANSWER_TOPIC = "RERANK_WORKER_TELEMETRY__PORT", "RERANK_WORKER_KAFKA__ANSWER_TOPIC"

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def environment(broker: LocalBroker, chroma_server: LocalChroma) -> dict[str, str]:
    """Topics, a group and a collection of these tests' own."""
    name = f"cli-ask-{os.getpid()}"
    kafka = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        query_topic=f"{name}.queries",
        answer_topic=f"{name}.answers",
        dead_letter_topic=f"{name}.dead",
        partitions=2,
    )
    ensure(kafka, create=True)
    return {
        **os.environ,
        "COLUMNS": "100",
        "RERANK_WORKER_MODELS": "offline",
        "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "RERANK_WORKER_KAFKA__QUERY_TOPIC": kafka.query_topic,
        ANSWER_TOPIC: kafka.answer_topic,
        "RERANK_WORKER_KAFKA__DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
        "RERANK_WORKER_KAFKA__GROUP_ID": name,
        "RERANK_WORKER_RECALL__HOST": chroma_server.host,
        "RERANK_WORKER_RECALL__PORT": str(chroma_server.port),
        "RERANK_WORKER_RECALL__COLLECTION": name,
        "RERANK_WORKER_TELEMETRY__HOST": "127.0.0.1",
        TELEMETRY_PORT: str(free_port()),
    }


@pytest.fixture(scope="module")
def cli(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Runs a command while a worker runs that knows three documents."""
    folder = tmp_path_factory.mktemp("cli")
    documents = folder / "documents.jsonl"
    documents.write_text("\n".join(json.dumps({"id": name, "text": text}) for name, text in DOCUMENTS.items()))
    log_path = folder / "worker.log"
    run = partial(run_command, environment=environment, folder=folder)
    assert "3 added" in run("ingest", str(documents)).stdout
    process = ForkedCommand("run", environment=environment, out=log_path, err=log_path)
    worker = WorkerProcess(process, f"http://127.0.0.1:{environment[TELEMETRY_PORT]}", log_path)
    try:
        worker.await_ready()
        yield run
    finally:
        worker.kill()


def test_an_answer_is_printed_with_its_ranking_and_citations(cli: Cli) -> None:
    asked = cli("ask", QUESTION)
    assert asked.returncode == 0, asked.stderr
    assert f"{QUESTION}  ok" in asked.stdout
    assert "[1] paris" in asked.stdout
    assert "→ 1" in asked.stdout
    assert asked.stderr == ""


def test_json_is_the_answer_event_alone(cli: Cli) -> None:
    asked = cli("ask", QUESTION, "--json", "--top-n", "1", "--no-generate")
    answer = json.loads(asked.stdout)
    assert [context["document_id"] for context in answer["contexts"]] == ["paris"]
    assert answer["answer"] is None


def test_what_was_not_kept_is_shown_as_dropped(cli: Cli) -> None:
    assert cli("ask", QUESTION, "--top-n", "1").stdout.count("dropped") == 2


def test_a_minimum_score_nothing_reaches_leaves_nothing(cli: Cli) -> None:
    asked = cli("ask", QUESTION, "--min-score", "1000")
    assert asked.returncode == 0
    assert "no_context" in asked.stdout
    assert "Not in the documents" in asked.stdout


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--collection", "there-is-none"], "(unknown_collection)"),
        (["--where", '{"$nonsense": 1}'], "(invalid_filter)"),
    ],
)
def test_a_query_the_worker_refuses_is_told_at_once(cli: Cli, option: list[str], told: str) -> None:
    asked = cli("ask", QUESTION, *option)
    assert asked.returncode == 1
    assert asked.stderr.startswith("error: the query was dead-lettered")
    assert told in asked.stderr
    assert asked.stderr.count("\n") == 1


def test_the_tail_prints_answers_as_lines_of_json_until_it_is_interrupted(
    cli: Cli, environment: dict[str, str], tmp_path: Path
) -> None:
    cli("ask", QUESTION)
    out, err = tmp_path / "out", tmp_path / "err"
    tail = ForkedCommand("tail", "--from-beginning", "--json", environment=environment, out=out, err=err)
    try:
        assert await_condition(lambda: out.exists() and "\n" in out.read_text(), timeout_s=HANG_S)
        assert json.loads(out.read_text().splitlines()[0])["query_text"] == QUESTION
        tail.send_signal(signal.SIGINT)
        assert tail.wait(HANG_S) == 130
    finally:
        tail.kill()
    assert err.read_text() == f"listening to {environment[ANSWER_TOPIC]}; Ctrl-C ends\n"
