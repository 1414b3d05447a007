"""What the worker does when what it lives on goes away and comes back."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import chromadb
import pytest
from chromadb.config import Settings as ChromaSettings

from schemas.events import AnswerStatus, QueryEvent
from tests.patience import HANG_S
from worker.client import QueryClient
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.kafka.admin.topics import ensure
from worker.local.broker import LocalBroker
from worker.local.chroma import local_chroma
from worker.local.jars import missing_tools
from worker.local.kafka import java_kafka
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings, Settings

pytestmark = pytest.mark.slow

QUESTION = "What permissions does Debezium need on MySQL?"


def ask(kafka: KafkaSettings, **changes: object) -> AnswerStatus:
    event = QueryEvent.model_validate({"id": uuid.uuid4().hex, "text": QUESTION, "generate": False, **changes})
    with QueryClient(kafka) as client:
        return client.ask(event, timeout_s=HANG_S).status


def test_a_broker_that_restarts_costs_readiness_and_nothing_else(
    broker: LocalBroker, cache_dir: Path, tmp_path: Path, collection: RecallSettings, start_worker: Callable
) -> None:
    if broker.kind != "java":
        pytest.skip(f"this test restarts its own broker from jars; here {missing_tools() or broker.description}")
    port = free_port()
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}", session_timeout_s=6.0, partitions=2)
    with ExitStack() as first:
        first.enter_context(java_kafka(cache_dir, tmp_path / "kafka", port=port))
        ensure(kafka, create=True)
        worker = start_worker(kafka, collection).await_ready()
        assert ask(kafka) is AnswerStatus.OK
    assert await_condition(lambda: not worker.is_ready, timeout_s=HANG_S)
    assert not worker.ended

    with java_kafka(cache_dir, tmp_path / "kafka", port=port):
        assert ask(kafka) is AnswerStatus.OK
        assert await_condition(lambda: worker.is_ready, timeout_s=HANG_S)
        assert worker.stop() == 0


def test_queries_wait_for_a_vector_store_that_is_away(
    kafka_settings: Callable[..., KafkaSettings], tmp_path: Path, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    recall = RecallSettings(host="127.0.0.1", port=free_port(), collection="outage")
    document = Document(id="d", text="Debezium needs REPLICATION SLAVE.", source="tests", origin="d")
    with local_chroma(tmp_path / "chroma", port=recall.port):
        ingest([document], settings=Settings(models="offline", recall=recall))
        worker = start_worker(kafka, recall).await_ready()
        assert ask(kafka) is AnswerStatus.OK

    events = [QueryEvent(id=str(number), text=QUESTION, generate=False) for number in range(20)]
    late = QueryEvent(id="late", text=QUESTION, generate=False, deadline_ms=1_000)
    with QueryClient(kafka) as client, ThreadPoolExecutor(1) as asking:
        # ask_all raises for a dead letter.
        answers = asking.submit(client.ask_all, [*events, late], timeout_s=HANG_S)
        waiting = "waiting for a dependency"
        assert await_condition(lambda: waiting in worker.log_path.read_text(), timeout_s=HANG_S)
        assert not answers.done()
        with local_chroma(tmp_path / "chroma", port=recall.port):
            *found, expired = answers.result(HANG_S)
            assert worker.stop() == 0
    assert {answer.status for answer in found} == {AnswerStatus.OK}
    assert expired.status is AnswerStatus.EXPIRED
    assert worker.log_path.read_text().count(waiting) == 1


def test_an_empty_collection_is_no_context(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> None:
    client = chromadb.HttpClient(collection.host, collection.port, settings=ChromaSettings(anonymized_telemetry=False))
    client.create_collection("worker-tests-empty", embedding_function=None)
    kafka = kafka_settings()
    worker = start_worker(kafka, collection).await_ready()
    assert ask(kafka, collection="worker-tests-empty") is AnswerStatus.NO_CONTEXT
    assert worker.stop() == 0
