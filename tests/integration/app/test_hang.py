"""A compute thread that hangs ends the worker, by name; its queries are left to the next one, none is blamed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas import wire
from schemas.events import QueryEvent
from tests.hanging_worker import hang
from tests.patience import HANG_S
from tests.topics import committed, held
from tests.worker_process import start_worker_process
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.kafka.config import common_config
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings, Settings

pytestmark = pytest.mark.slow


def test_a_hung_compute_thread_ends_the_worker_and_the_next_one_answers(
    kafka_settings: Callable[..., KafkaSettings], chroma_server: LocalChroma, tmp_path: Path
) -> None:
    kafka = kafka_settings()
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection="hang-tests")
    ingest(
        [Document(id="a", text="Consumer groups share partitions.", source="tests", origin="a")],
        settings=Settings(models="offline", recall=recall),
    )
    hanging = start_worker_process(
        kafka,
        recall,
        tmp_path / "hanging.log",
        before=hang,
        # As short as a busy machine lets a search be: a hang must take longer.
        RECALL__TIMEOUT_S="5",
        TELEMETRY__HANG_TIMEOUT_S="8",
        KAFKA__CLOSE_TIMEOUT_S="5",
    )
    producer = Producer(common_config(kafka))
    producer.produce(kafka.query_topic, wire.encode_query(QueryEvent(id="q", text="What shares partitions?")))
    assert producer.flush(HANG_S) == 0
    # Its thread never comes back, so closing ends by its deadline.
    assert hanging.process.wait(HANG_S) == 1, hanging.log_path.read_text()
    assert "the thread 'compute' hangs" in hanging.log_path.read_text()
    assert held(kafka, kafka.dead_letter_topic) == []
    assert committed(kafka) == 0

    well = start_worker_process(kafka, recall, tmp_path / "well.log")
    try:
        assert await_condition(lambda: len(held(kafka, kafka.answer_topic)) == 1, timeout_s=HANG_S), well.describe()
        assert wire.decode_answer(held(kafka, kafka.answer_topic)[0].value()).query_id == "q"
    finally:
        assert well.stop() == 0
