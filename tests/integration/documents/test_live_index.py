"""The live index as production runs it, with the real model: what it makes of events, and of its traces.

What holds while things break is shown by tests/faults/index.
"""

import json
from pathlib import Path

import httpx
import pytest

from tests.fakes.collector import fake_collector
from tests.live_index import indexed, produce
from tests.patience import HANG_S
from tests.topics import committed
from tests.worker_process import start_worker_process
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings
from worker.settings.kafka import for_documents

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())]
LONG = " ".join(["Debezium reads the log of a database and writes a record for each change of a row."] * 30)
EVENTS = [
    ("changes", {"text": LONG}),
    ("offsets", {"text": "A group commits how far it has read."}),
    ("gone", {"text": "This one is deleted again."}),
    ("changes", {"text": "Debezium reads the log of a database.", "metadata": {"teams": ["data"]}}),
    ("gone", None),
]


def test_the_collection_follows_the_topic_and_each_event_is_one_trace(
    kafka: KafkaSettings, chroma_server: LocalChroma, tmp_path: Path
) -> None:
    documents = for_documents(kafka)
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection=kafka.documents_topic)
    with fake_collector() as collector:
        index = start_worker_process(
            kafka,
            recall,
            tmp_path / "index.log",
            subcommand="index",
            TELEMETRY__OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}",
        ).await_ready()
        produce(
            documents,
            [(key, None if value is None else json.dumps(value).encode()) for key, value in EVENTS],
            headers=CONTEXT,
        )
        assert await_condition(lambda: committed(documents) == len(EVENTS), timeout_s=HANG_S), index.describe()
        page = httpx.get(f"{index.telemetry}/metrics", timeout=HANG_S).text
        for outcome in ("written", "deleted"):
            assert f'rerank_worker_documents_total{{outcome="{outcome}"}}' in page
        assert "rerank_worker_index_freshness_seconds_count 5.0" in page
        assert index.stop() == 0

        assert indexed(recall) == {
            "changes": "Debezium reads the log of a database.",
            "offsets": "A group commits how far it has read.",
        }

        mine = [span.name for span in collector.spans if span.trace_id.hex() == TRACE]
        writes = ["delete", *[f"upsert {recall.collection}"] * 4]
        assert sorted(mine) == sorted([f"process {documents.query_topic}"] * len(EVENTS) + writes)
        linked = {link.trace_id.hex() for batch in collector.named("batch index") for link in batch.links}
        assert linked == {TRACE}
