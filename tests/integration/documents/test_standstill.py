"""A process that stood still in the middle of a write, and woke when its documents were others': it undoes nothing."""

import json
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from tests.faults.index.fake_embedder import STANDS_STILL, embed_and_stop, embed_by_digest
from tests.live_index import indexed
from tests.patience import HANG_S
from tests.topics import committed
from tests.worker_process import start_worker_process
from worker.documents.stream.standstill import StoodStillError
from worker.kafka.admin.topics import ensure, index_topics
from worker.kafka.config import common_config
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition
from worker.recall.chroma_connection import ChromaConnection
from worker.settings import KafkaSettings, RecallSettings
from worker.settings.kafka import for_documents

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_who_stood_still_for_longer_than_its_session_undoes_nothing(
    kafka_settings: Callable[..., KafkaSettings], chroma_server: LocalChroma, tmp_path: Path, protocol: str
) -> None:
    name = uuid.uuid4().hex[:8]
    kafka = kafka_settings(
        documents_topic=f"documents-{name}",
        documents_dead_letter_topic=f"dead-documents-{name}",
        documents_group_id=f"index-{name}",
        partitions=1,
    )
    documents = for_documents(kafka)
    ensure(documents, create=True, names=index_topics(documents))
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection=kafka.documents_topic)
    producer = Producer(common_config(documents) | {"enable.idempotence": True, "linger.ms": 50})

    def produce(key: str, text: str | None) -> None:
        value = None if text is None else json.dumps({"text": text}).encode()
        producer.produce(documents.query_topic, key=key.encode(), value=value)

    settings = {"subcommand": "index", "KAFKA__GROUP_PROTOCOL": protocol}
    stopped = start_worker_process(kafka, recall, tmp_path / "stopped.log", before=embed_and_stop, **settings)
    stopped.await_ready()
    for key in ("changed", "gone"):
        produce(key, f"{key} {STANDS_STILL} old")
    assert producer.flush(HANG_S) == 0
    process = psutil.Process(stopped.process.pid)
    assert await_condition(lambda: process.status() == psutil.STATUS_STOPPED, timeout_s=HANG_S)

    other = start_worker_process(kafka, recall, tmp_path / "other.log", before=embed_by_digest, **settings)
    produce("changed", "changed new")
    produce("gone", None)
    assert producer.flush(HANG_S) == 0
    assert await_condition(lambda: committed(documents) == 4, timeout_s=HANG_S), other.describe()
    assert indexed(recall) == {"changed": "changed new"}

    stopped.process.send_signal(signal.SIGCONT)
    assert await_condition(lambda: '"lost"' in stopped.log_path.read_text(), timeout_s=HANG_S)
    # Whatever was in work ends before it does.
    assert stopped.stop() == 0
    assert indexed(recall) == {"changed": "changed new"}
    assert other.stop() == 0


def test_a_request_that_is_held_back_is_not_sent(chroma_server: LocalChroma) -> None:
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, attempts=1)
    held_back = True

    def before_request() -> None:
        if held_back:
            raise StoodStillError("for a while")

    with closing(ChromaConnection(recall, before_request)) as connection:
        deadline = time.monotonic() + HANG_S
        name = f"held-back-{uuid.uuid4().hex[:8]}"
        with pytest.raises(StoodStillError):
            connection.run(lambda client: client.create_collection(name, embedding_function=None), deadline=deadline)
        held_back = False
        names = connection.run(lambda client: [each.name for each in client.list_collections()], deadline=deadline)
        assert name not in names
