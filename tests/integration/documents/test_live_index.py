"""The collection is the topic's last state by key, whatever happened: real Kafka, Chroma, model, processes."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.documents.live_index import Oracle, dead_letters, indexed, live_collection, produce
from tests.lexical import texts_of_both
from tests.patience import HANG_S
from tests.topics import committed
from tests.worker_process import WorkerProcess, start_worker_process
from worker.kafka.admin.topics import ensure, index_topics
from worker.local.chroma import local_chroma
from worker.local.process import await_condition, free_port
from worker.settings import KafkaSettings, RecallSettings
from worker.settings.kafka import for_documents

pytestmark = pytest.mark.slow

# A soak has more: RERANK_WORKER_TESTS_INDEX_EVENTS=10000.
EVENTS_A_PHASE = int(os.environ.get("RERANK_WORKER_TESTS_INDEX_EVENTS", "500"))
KEYS = EVENTS_A_PHASE * 3 // 10


@pytest.fixture
def kafka(kafka_settings: Callable[..., KafkaSettings]) -> KafkaSettings:
    """As the index has it, with topics of its own."""
    name = uuid.uuid4().hex[:8]
    topics = {"documents_topic": f"documents-{name}", "documents_dead_letter_topic": f"dead-documents-{name}"}
    kafka = kafka_settings(**topics, documents_group_id=f"index-{name}")
    documents = for_documents(kafka)
    ensure(documents, create=True, names=index_topics(documents))
    return kafka


@pytest.fixture
def start_index(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Callable[[RecallSettings], WorkerProcess]]:
    """Starts processes of `rerank-worker index`; ends those that the test leaves running."""
    started: list[WorkerProcess] = []

    def start(recall: RecallSettings) -> WorkerProcess:
        log_path = tmp_path / f"index-{len(started)}.log"
        # However slow the machine is, a drain is to end by itself.
        settings = {"KAFKA__POISON_LIMIT": "1", "KAFKA__DRAIN_TIMEOUT_S": str(HANG_S)}
        settings["RECALL__LEXICAL_PATH"] = str(recall.lexical_path)
        started.append(start_worker_process(kafka, recall, log_path, subcommand="index", **settings))
        return started[-1]

    yield start
    for worker in started:
        if not worker.ended:
            worker.kill()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_collection_is_the_topics_last_state_by_key(
    kafka: KafkaSettings, start_index: Callable[[RecallSettings], WorkerProcess], tmp_path: Path, seed: int
) -> None:
    lexical = tmp_path / "lexical"
    recall = RecallSettings(host="127.0.0.1", port=free_port(), collection="live", lexical_path=lexical)
    oracle, documents = Oracle(seed, KEYS), for_documents(kafka)

    def done() -> int:
        return committed(documents)

    with ExitStack() as store:
        store.enter_context(local_chroma(tmp_path / "chroma", port=recall.port))
        doomed, other = start_index(recall).await_ready(), start_index(recall).await_ready()

        produce(documents, oracle.events(EVENTS_A_PHASE))
        assert await_condition(lambda: done() > EVENTS_A_PHASE // 5, timeout_s=HANG_S)
        doomed.kill()
        successor = start_index(recall).await_ready()

        produce(documents, oracle.events(EVENTS_A_PHASE))
        assert await_condition(lambda: done() > EVENTS_A_PHASE, timeout_s=HANG_S)
    produce(documents, oracle.events(EVENTS_A_PHASE))
    waiting = "documents wait for the vector store"
    assert await_condition(lambda: waiting in other.log_path.read_text(), timeout_s=HANG_S)

    with local_chroma(tmp_path / "chroma", port=recall.port):
        successor.await_ready()
        newcomer = start_index(recall).await_ready()
        produce(documents, oracle.events(EVENTS_A_PHASE))
        assert other.stop() == 0
        assert await_condition(lambda: done() == oracle.sent, timeout_s=HANG_S), newcomer.describe()
        assert indexed(recall) == oracle.texts
        words, held = texts_of_both(lexical, live_collection(recall))
        assert words == held
        assert len(dead_letters(documents)) == oracle.poisoned
        assert (successor.stop(), newcomer.stop()) == (0, 0)
