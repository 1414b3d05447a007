"""A swap under load: while queries are asked all the time, their collection is built anew, swapped, swapped back."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.events import AnswerEvent, AnswerStatus, QueryEvent
from tests.forked_command import run_command
from tests.live_index import produce
from tests.patience import HANG_S
from tests.topics import held
from tests.worker_process import HTTP, WorkerProcess, start_worker_process
from worker.client import QueryClient
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings, Settings
from worker.settings.kafka import for_documents

pytestmark = pytest.mark.slow

NAME, NEW = "swapped", "swapped-2"
FOLLOW_S = 1.0
TOGETHER = 4
"""Queries under way at once."""
ENOUGH = 20
"""Answers that show from where they come."""
TEXTS = {
    f"doc-{number}": f"What broker {number} says of offset {number * 7} and of its leader." for number in range(60)
}
ASKED = list(TEXTS.values())


@dataclass
class Asking:
    """What is asked, a few queries at a time, as soon as those before them are answered."""

    answers: list[tuple[float, AnswerEvent]] = field(default_factory=list)
    """With the moment, on the monotonic clock, when each was asked."""
    failures: list[BaseException] = field(default_factory=list)

    def go_on(self, kafka: KafkaSettings, stopped: threading.Event) -> None:
        try:
            with QueryClient(kafka) as client:
                while not stopped.is_set():
                    at_s, first = time.monotonic(), len(self.answers)
                    events = [
                        QueryEvent(id=f"q{n}", text=ASKED[n % len(ASKED)]) for n in range(first, first + TOGETHER)
                    ]
                    # Raises for a dead letter.
                    answers = client.ask_all(events, timeout_s=HANG_S)
                    self.answers += [(at_s, answer) for answer in answers]
        except Exception as error:
            self.failures.append(error)
            raise

    def answered_from(self, moment_s: float) -> set[object]:
        """Wait for ``ENOUGH`` answers to what was asked later than that; return from which collections they come."""

        def later() -> list[AnswerEvent]:
            return [answer for at_s, answer in list(self.answers) if at_s > moment_s]

        assert await_condition(lambda: len(later()) >= ENOUGH or bool(self.failures), timeout_s=HANG_S)
        assert self.failures == []
        return {version for answer in later() for version in versions(answer)}


@contextmanager
def asking(kafka: KafkaSettings) -> Iterator[Asking]:
    """Ask all the time, until the block ends."""
    asked, stopped = Asking(), threading.Event()
    thread = threading.Thread(target=asked.go_on, args=(kafka, stopped), name="asking")
    thread.start()
    try:
        yield asked
    finally:
        stopped.set()
        thread.join(HANG_S)


def versions(answer: AnswerEvent) -> set[object]:
    """From which of the two collections its contexts come."""
    return {context.metadata["version"] for context in answer.contexts}


@pytest.fixture
def recall(chroma_server: LocalChroma) -> RecallSettings:
    return RecallSettings(host=chroma_server.host, port=chroma_server.port, collection=NAME)


@pytest.fixture
def collections(kafka: KafkaSettings, recall: RecallSettings) -> Callable[..., str]:
    """Runs `rerank-worker collections`; returns what it printed if it ended as it should."""
    settings = {
        "MODELS": "offline",
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__DOCUMENTS_TOPIC": kafka.documents_topic,
        "KAFKA__DOCUMENTS_GROUP_ID": kafka.documents_group_id,
        "RECALL__HOST": recall.host,
        "RECALL__PORT": str(recall.port),
        "RECALL__COLLECTION": recall.collection,
        "RECALL__FOLLOW_S": str(FOLLOW_S),
    }
    environment: Mapping[str, str] = {
        **os.environ,
        **{f"RERANK_WORKER_{key}": value for key, value in settings.items()},
    }

    def run(*arguments: str, code: int = 0) -> str:
        ended = run_command("collections", *arguments, environment=environment)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return run


@pytest.fixture
def start(kafka: KafkaSettings, recall: RecallSettings, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(subcommand: str, *arguments: str) -> WorkerProcess:
        log_path, follow_s = tmp_path / f"{subcommand}.log", str(FOLLOW_S)
        environment = {"RECALL__FOLLOW_S": follow_s, "RECALL__TOP_K": "4"}
        started.append(
            start_worker_process(kafka, recall, log_path, subcommand=subcommand, arguments=arguments, **environment)
        )
        return started[-1]

    yield start
    for worker in started:
        if not worker.ended:
            worker.kill()


def test_running_workers_follow_a_swap_and_the_way_back_and_no_query_is_lost_or_fails(
    kafka: KafkaSettings,
    recall: RecallSettings,
    collections: Callable[..., str],
    start: Callable[..., WorkerProcess],
) -> None:
    old = [
        Document(id=key, text=text, source="t", origin=key, metadata={"version": "old"}) for key, text in TEXTS.items()
    ]
    ingest(old, settings=Settings(models="offline", recall=recall))
    worker = start("run").await_ready()
    with asking(kafka) as asked:
        collections("swap", NAME, NEW, code=1)
        index = start("index", "--into", NEW).await_ready()
        # Nothing was produced yet: an empty collection is not ready.
        assert f"'{NEW}' is empty" in collections("swap", NAME, NEW, "--sample", "0", code=1)
        produce(
            for_documents(kafka),
            iter(
                (key, json.dumps({"text": text, "metadata": {"version": "new"}}).encode())
                for key, text in TEXTS.items()
            ),
        )
        assert await_condition(lambda: index.metric("rerank_worker_documents_total") == len(TEXTS), timeout_s=HANG_S)
        assert index.stop() == 0
        report = collections("swap", NAME, NEW, "--sample", "10")
        swapped_s = time.monotonic()
        assert "overlap: 100.0%" in report
        assert f"the group {kafka.documents_group_id}-{NEW} is 0 events behind the topic" in report
        assert f"{NAME} reads {NEW}; every worker follows within 1 s" in report
        # What is asked later than that is answered from the new one alone, for as long as nobody swaps back.
        assert asked.answered_from(swapped_s + FOLLOW_S) == {"new"}
        collections("swap", NAME, NAME, "--sample", "0")
        assert asked.answered_from(time.monotonic() + FOLLOW_S) == {"old"}

    answers = [answer for _, answer in asked.answers]
    assert asked.failures == []
    assert {answer.status for answer in answers} == {AnswerStatus.OK}
    assert {len(versions(answer)) for answer in answers} == {1}, "an answer is of one collection"
    assert versions(answers[0]) == {"old"}
    assert len(held(kafka, kafka.query_topic)) == len(answers)
    assert held(kafka, kafka.dead_letter_topic) == []
    failed = ("rerank_worker_dependency_errors_total", "rerank_worker_dead_letters_total")
    assert worker.metrics(*failed) == [0.0, 0.0], worker.describe()
    slowest_ms = max(answer.timings_ms.recall for answer in answers)
    print(f"{len(answers)} queries, all answered; slowest recall {slowest_ms:.0f} ms")
    shown = f'rerank_worker_collection_info{{collection="{NAME}",reads="{NAME}"}} 1.0'
    assert shown in HTTP.get(f"{worker.telemetry}/metrics").text
    log = worker.log_path.read_text()
    assert log.count("following the collection's pointer") >= 2
    assert worker.stop() == 0
