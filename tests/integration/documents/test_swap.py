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
from confluent_kafka import Producer

from schemas import wire
from schemas.events import AnswerEvent, AnswerStatus, QueryEvent
from tests.forked_command import run_command
from tests.integration.documents.live_index import Event, produce
from tests.patience import HANG_S
from tests.topics import held
from tests.worker_process import HTTP, WorkerProcess, start_worker_process
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.kafka.config import common_config
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings, Settings
from worker.settings.kafka import for_documents

pytestmark = pytest.mark.slow

NAME, NEW = "swapped", "swapped-2"
FOLLOW_S = 1.0
PAUSE_S = 0.05
"""Between two queries."""
ENOUGH = 40
"""Answers that show from where they come."""
TEXTS = {
    f"doc-{number}": f"What broker {number} says of offset {number * 7} and of its leader." for number in range(60)
}


@dataclass
class Asked:
    """Queries, and when each was asked."""

    at_s: dict[str, float] = field(default_factory=dict)


@contextmanager
def asking(kafka: KafkaSettings) -> Iterator[Asked]:
    """Ask all the time, until the block ends."""
    asked, stopped = Asked(), threading.Event()
    producer = Producer(common_config(kafka) | {"enable.idempotence": True})

    def ask() -> None:
        texts = list(TEXTS.values())
        while not stopped.wait(PAUSE_S):
            number = len(asked.at_s)
            event = QueryEvent(id=f"q{number}", text=texts[number % len(texts)])
            asked.at_s[event.id] = time.monotonic()
            producer.produce(kafka.query_topic, key=event.id.encode(), value=wire.encode_query(event))
            producer.poll(0)

    thread = threading.Thread(target=ask, name="asking")
    thread.start()
    try:
        yield asked
    finally:
        stopped.set()
        thread.join(HANG_S)
    assert producer.flush(HANG_S) == 0


def answers_of(kafka: KafkaSettings) -> list[AnswerEvent]:
    return [wire.decode_answer(message.value()) for message in held(kafka, kafka.answer_topic)]


def versions(answer: AnswerEvent) -> set[object]:
    """From which of the two collections its contexts come."""
    return {context.metadata["version"] for context in answer.contexts}


def answered_since(kafka: KafkaSettings, asked: Asked, moment_s: float, worker: WorkerProcess) -> set[object]:
    """From which collections the queries asked later than that are answered, once there are ``ENOUGH`` of them."""
    later: list[AnswerEvent] = []

    def enough() -> bool:
        later[:] = [answer for answer in answers_of(kafka) if asked.at_s[answer.query_id] > moment_s]
        return len(later) >= ENOUGH

    assert await_condition(enough, timeout_s=HANG_S), worker.describe()
    return {version for answer in later for version in versions(answer)}


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
                Event(key, json.dumps({"text": text, "metadata": {"version": "new"}}).encode())
                for key, text in TEXTS.items()
            ),
        )
        assert await_condition(lambda: index.metric("rerank_worker_documents_total") == len(TEXTS), timeout_s=HANG_S)
        assert index.stop() == 0
        report = collections("swap", NAME, NEW)
        swapped_s = time.monotonic()
        assert "overlap: 100.0%" in report
        assert f"the group {kafka.documents_group_id}-{NEW} is 0 events behind the topic" in report
        assert f"{NAME} reads {NEW}; every worker follows within 1 s" in report
        # What is asked later than that is answered from the new one alone, for as long as nobody swaps back.
        assert answered_since(kafka, asked, swapped_s + FOLLOW_S, worker) == {"new"}
        collections("swap", NAME, NAME)
        back_s = time.monotonic()
        assert answered_since(kafka, asked, back_s + FOLLOW_S, worker) == {"old"}

    answers: list[AnswerEvent] = []

    def all_answered() -> bool:
        answers[:] = answers_of(kafka)
        return {answer.query_id for answer in answers} == set(asked.at_s)

    assert await_condition(all_answered, timeout_s=HANG_S), worker.describe()
    assert {answer.status for answer in answers} == {AnswerStatus.OK}
    assert held(kafka, kafka.dead_letter_topic) == []
    failed = ("rerank_worker_dependency_errors_total", "rerank_worker_dead_letters_total")
    assert worker.metrics(*failed) == [0.0, 0.0], worker.describe()
    assert {len(versions(answer)) for answer in answers} == {1}, "an answer is of one collection"
    assert versions(min(answers, key=lambda answer: asked.at_s[answer.query_id])) == {"old"}
    slowest_ms = max(answer.timings_ms.recall for answer in answers)
    print(f"{len(answers)} answers to {len(asked.at_s)} queries; slowest recall {slowest_ms:.0f} ms")

    shown = f'rerank_worker_collection_info{{collection="{NAME}",reads="{NAME}"}} 1.0'
    assert shown in HTTP.get(f"{worker.telemetry}/metrics").text
    log = worker.log_path.read_text()
    assert log.count("following the collection's pointer") >= 2
    assert worker.stop() == 0
