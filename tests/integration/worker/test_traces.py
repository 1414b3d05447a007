"""A real worker's traces: one query from its producer's context to its answer's, and a collector that is not there."""

from collections.abc import Callable

import pytest

from schemas.events import QueryEvent
from tests.fakes.collector import fake_collector
from tests.patience import HANG_S
from tests.worker_process import WorkerProcess
from worker.client import QueryClient
from worker.local.process import free_port
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())]
EVENT = QueryEvent(id="traced", text="capital of france", top_k=2)


def test_a_query_is_one_trace_and_its_batches_are_linked_to_it(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable[..., WorkerProcess]
) -> None:
    kafka = kafka_settings()
    with fake_collector() as collector, QueryClient(kafka) as client:
        endpoint = f"http://127.0.0.1:{collector.port}"
        worker = start_worker(kafka, collection, TELEMETRY__OTLP_ENDPOINT=endpoint).await_ready()
        client.ask(EVENT, timeout_s=HANG_S, headers=CONTEXT)
        # What is not sent yet is sent before it ends.
        assert worker.stop() == 0
        mine = [span for span in collector.spans if span.trace_id.hex() == TRACE]
        kinds = sorted(span.name.split(" ")[0] for span in mine)
        # An answer that is quoted is scored by the cross-encoder too, inside the answer's own span.
        assert kinds == ["answer", "process", "rerank", "retrieval", "send"]
        ids = {span.span_id for span in mine}
        for batcher in ("embed", "recall", "rerank"):
            [*batches] = collector.named(f"batch {batcher}")
            assert batches, batcher
            assert all(link.span_id in ids for batch in batches for link in batch.links), batcher


def test_a_collector_that_is_away_is_in_nobodys_way(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable[..., WorkerProcess]
) -> None:
    kafka = kafka_settings()
    with QueryClient(kafka) as client:
        endpoint = f"http://127.0.0.1:{free_port()}"
        worker = start_worker(
            kafka, collection, TELEMETRY__OTLP_ENDPOINT=endpoint, KAFKA__CLOSE_TIMEOUT_S="10"
        ).await_ready()
        answer = client.ask(EVENT, timeout_s=HANG_S, headers=CONTEXT)
        assert answer.status == "ok"
        assert worker.stop() == 0
