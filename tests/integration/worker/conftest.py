"""A collection to search and workers to search it with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker_process import WorkerProcess, start_worker_process
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.local.chroma import LocalChroma
from worker.settings import KafkaSettings, RecallSettings, Settings

COLLECTION = "worker-tests"

TEXTS = {
    "permissions": "Debezium's MySQL connector needs a dedicated replication user with REPLICATION SLAVE privileges.",
    "groups": "Kafka consumer groups distribute partition reads across multiple consumers.",
    "paris": "Paris is the capital and most populous city of France.",
}


@pytest.fixture(scope="session")
def collection(chroma_server: LocalChroma) -> RecallSettings:
    """A small collection on the real server, embedded by the real offline model."""
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection=COLLECTION)
    ingest_texts(recall)
    return recall


def ingest_texts(recall: RecallSettings) -> None:
    documents = [Document(id=name, text=text, source="tests", origin=name) for name, text in TEXTS.items()]
    ingest(documents, settings=Settings(models="offline", recall=recall))


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers; ends those that the test leaves running."""
    started: list[WorkerProcess] = []

    def start(kafka: KafkaSettings, recall: RecallSettings, **environment: str) -> WorkerProcess:
        log_path = tmp_path / f"worker-{len(started)}.log"
        started.append(start_worker_process(kafka, recall, log_path, **environment))
        return started[-1]

    yield start
    for worker in started:
        if not worker.ended:
            worker.kill()
