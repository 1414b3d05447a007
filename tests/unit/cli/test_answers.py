"""`ask` and `tail` as a user types them, with a stand-in for the worker at the other end."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from schemas import wire
from tests.fakes.worker import HELD, FakeWorker
from tests.patience import HANG_S
from worker.cli import answers
from worker.cli.main import app
from worker.kafka.admin.topics import worker_topics
from worker.local.mock_kafka import mock_kafka
from worker.settings import KafkaSettings

BROKER = "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS"
CONTEXTS = "RERANK_WORKER_KAFKA__CONTEXTS_TOPIC"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def misused(*arguments: str) -> str:
    """What a misuse is told, in one line."""
    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert ended.exit_code == 2
    return " ".join(ended.stderr.split())


def test_a_question_without_quotes_is_told_to_have_them() -> None:
    assert 'quote the question: rerank-worker ask "hello wide world"' in misused("ask", "hello", "wide", "world")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["   "], "text: must not be blank"),
        (["why?", "--top-k", "0"], "top_k: must be at least 1"),
        (["why?", "--deadline-ms", "0"], "deadline_ms: must be at least 1"),
        (["why?", "--where", "5"], "where: must be an object"),
        (["why?", "--header", "tenant"], "--header takes NAME=VALUE, not 'tenant'"),
        (["why?", "--header", "=a"], "--header takes NAME=VALUE, not '=a'"),
        (["why?", "--header", "correlation-id=mine"], "the header correlation-id is set by `ask`"),
        (["why?", "--header", "reply-topic=mine"], "the header reply-topic is set by `ask`"),
    ],
)
def test_what_no_worker_would_read_is_refused_in_words_of_ours(arguments: list[str], told: str) -> None:
    assert told in misused("ask", *arguments)


@pytest.mark.parametrize(
    "context",
    [
        "nonsense",
        "",
        TRACE.upper(),
        f"{TRACE}-more",
        TRACE.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_a_trace_context_that_is_none_is_refused(context: str) -> None:
    assert f"--traceparent '{context}' is none" in misused("ask", "why?", "--traceparent", context)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(startup_timeout_s=HANG_S, contexts_topic="contexts")
    with mock_kafka(tmp_path_factory.mktemp("mock"), worker_topics(settings), partitions=2) as address:
        yield settings.model_copy(update={"bootstrap_servers": address})


@pytest.fixture(scope="module")
def worker(kafka: KafkaSettings) -> Iterator[FakeWorker]:
    with FakeWorker(kafka) as running:
        yield running


def ask(kafka: KafkaSettings, *arguments: str) -> Result:
    asked = CliRunner().invoke(
        app, ["ask", *arguments, "--timeout", str(HANG_S)], env={BROKER: kafka.bootstrap_servers}
    )
    assert asked.exit_code == 0, asked.stderr
    return asked


def test_key_headers_and_trace_go_along(kafka: KafkaSettings, worker: FakeWorker) -> None:
    ask(kafka, "why?", "--key", "user-7", "--header", "a=1", "--header", "b=x=y", "--traceparent", TRACE)
    [headers] = [headers for key, headers in worker.seen if key == b"user-7"]
    own = [header for header in headers if header[0] != wire.CORRELATION_ID]
    assert own == [("a", b"1"), ("b", b"x=y"), (wire.TRACEPARENT, TRACE.encode())]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], {"include_candidates": True}),
        (["--json"], {"include_candidates": False}),
        (["--json", "--include-candidates"], {"include_candidates": True}),
        (["--deadline-ms", "9000"], {"deadline_ms": 9000}),
    ],
)
def test_options_become_fields_of_the_query(
    kafka: KafkaSettings, worker: FakeWorker, arguments: list[str], wanted: dict[str, object]
) -> None:
    ask(kafka, "why?", *arguments)
    assert wanted.items() <= worker.asked[-1].model_dump().items()


def test_contexts_are_shown_on_a_terminal_until_the_answer_is_there(
    kafka: KafkaSettings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WatchedTerminal(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if "a passage" in self.getvalue():
                worker.may_answer.set()
            return written

    worker.may_answer.clear()
    terminal = WatchedTerminal()
    shown_on = Console(file=terminal, force_terminal=True, color_system=None, width=100, _environ={})
    monkeypatch.setattr(answers, "err", shown_on)
    environment = {BROKER: kafka.bootstrap_servers, CONTEXTS: str(kafka.contexts_topic)}
    asked = CliRunner().invoke(app, ["ask", HELD, "--timeout", str(HANG_S)], env=environment)
    assert asked.exit_code == 0, asked.stderr
    told = terminal.getvalue()
    places = [told.index(each) for each in ("waiting for the answer", "hold  contexts", "the answer is being written")]
    assert places == sorted(places)
    assert "d1  a passage[2J of d1" in told, "other people's texts do not steer the terminal"
    assert "hold  no_context" in asked.stdout
    assert "a passage" not in asked.stdout


def test_elsewhere_nobody_reads_contexts(kafka: KafkaSettings, worker: FakeWorker) -> None:
    worker.may_answer.set()
    environment = {BROKER: kafka.bootstrap_servers, CONTEXTS: str(kafka.contexts_topic)}
    asked = CliRunner().invoke(app, ["ask", HELD, "--json", "--timeout", str(HANG_S)], env=environment)
    assert json.loads(asked.stdout)["query_text"] == HELD
    assert asked.stderr == ""


def test_the_tail_says_what_it_listens_to_and_tells_answers_apart(kafka: KafkaSettings, worker: FakeWorker) -> None:
    answer = json.loads(ask(kafka, "why?", "--json").stdout)
    tail = subprocess.Popen(
        [sys.executable, "-m", "worker.cli.main", "tail", "--from-beginning"],
        env={**os.environ, BROKER: kafka.bootstrap_servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    try:
        at = answer["answered_at"][:19].replace("T", " ")
        assert f"{at} UTC  {answer['query_id']}\n" in tail.stdout, "it prints without end"
        tail.send_signal(signal.SIGINT)
        _, told = tail.communicate(timeout=HANG_S)
    finally:
        tail.kill()
        tail.wait()
    assert tail.returncode == 130
    assert told == f"listening to {kafka.answer_topic}; Ctrl-C ends\n"
