"""Every metric of a running worker moves when what it counts happens, and every panel of the dashboards shows it."""

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from schemas.events import QueryEvent
from tests.fakes.llm import fake_llm
from tests.live_index import live_collection
from tests.patience import HANG_S
from tests.prometheus import ask, dashboard_expressions, prometheus_of
from tests.worker_process import WorkerProcess
from worker.client import QueryClient
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.recall.lexical.index import LexicalIndex
from worker.settings import KafkaSettings, RecallSettings
from worker.telemetry.reference import page

pytestmark = pytest.mark.slow

DOCUMENTED = set(re.findall(r"^\| `(rerank_worker_\w+)`", page(), re.MULTILINE))
ELSEWHERE = {
    "rerank_worker_stopped_partitions",
    "rerank_worker_unpublished_bytes",
    "rerank_worker_epochs_total",
    "rerank_worker_completed_uncommitted_queries",
}
"""Need a topic that takes nothing, or that is made again: tests/integration/kafka/test_stopped_partition.py and
test_offsets_go_back.py. What waits to be published waits for milliseconds otherwise, and nothing is held back where one
query is in work at a time: tests/unit/kafka/deliver."""

OF_THE_INDEX = {"rerank_worker_documents_total", "rerank_worker_index_freshness_seconds"}
"""Another process has them: tests/integration/documents/test_live_index.py."""


def moved(worker: WorkerProcess) -> set[str]:
    """The metrics of which some sample is not zero now."""
    text = httpx.get(f"{worker.telemetry}/metrics", timeout=HANG_S).text
    names = {
        sample.name.removesuffix("_count")
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value and not sample.name.endswith(("_created", "_bucket", "_sum"))
    }
    return names & DOCUMENTED


def test_every_metric_of_a_running_worker_moves_and_every_panel_shows_something(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable, tmp_path: Path
) -> None:
    assert len(DOCUMENTED) > 20
    kafka = kafka_settings(contexts_topic=f"contexts-{uuid.uuid4().hex[:8]}")
    missing = DOCUMENTED - ELSEWHERE - OF_THE_INDEX
    held_there = live_collection(collection)
    lexical = LexicalIndex(tmp_path / "lexical")
    lexical.fill(held_there, lambda operation: operation(held_there))
    lexical.close()

    with ExitStack() as parts:
        llm = parts.enter_context(fake_llm())
        asking = parts.enter_context(ThreadPoolExecutor(1))
        client = parts.enter_context(QueryClient(kafka))
        worker: WorkerProcess = start_worker(
            kafka,
            collection,
            KAFKA__MAX_IN_FLIGHT="1",
            KAFKA__POLL_BATCH="1",
            ANSWER__BASE_URL=llm.base_url,
            ANSWER__MODEL="fake-llm",
            ANSWER__TIMEOUT_S="600",
            ANSWER__STORE_PATH=str(tmp_path / "answers"),
            RECALL__LEXICAL_PATH=str(tmp_path / "lexical"),
        ).await_ready()

        prometheus = parts.enter_context(prometheus_of(httpx.URL(worker.telemetry).port or 80, tmp_path))

        def seen_all(of: set[str]) -> bool:
            missing.difference_update(moved(worker))
            return not missing & of

        # The client knows of no lag where nothing was ever committed.
        client.ask_all([QueryEvent(id=f"f{number}", text="capital of france") for number in range(8)], timeout_s=HANG_S)
        # A dependency that is silent holds queries in flight, at the mark, with others waiting behind them.
        llm.fall_ill("silent")
        events = [QueryEvent(id=f"q{number}", text="capital of france", top_k=2) for number in range(20)]
        answers = asking.submit(client.ask_all, events, timeout_s=HANG_S)
        held = {"in_flight_queries", "in_flight_pairs", "paused_partitions", "watermark_age_seconds"}
        held |= {"consumer_lag_records"}
        assert await_condition(lambda: seen_all({f"rerank_worker_{name}" for name in held}), timeout_s=HANG_S), missing
        llm.heal()
        assert len(answers.result(HANG_S)) == len(events)

        llm.fall_ill("broken")
        degraded = [QueryEvent(id=f"d{number}", text=f"capital of france {number}", top_k=1) for number in range(8)]
        client.ask_all(degraded, timeout_s=HANG_S)
        producer = Producer(common_config(kafka))
        producer.produce(kafka.query_topic, b"{", headers=[("reply-topic", b"not-on-the-list")])
        assert producer.flush(HANG_S) == 0
        assert await_condition(lambda: seen_all(DOCUMENTED), timeout_s=HANG_S), missing

        unanswered = {each for each in dashboard_expressions() if not any(name in each for name in OF_THE_INDEX)}

        def answered() -> bool:
            unanswered.difference_update([expression for expression in unanswered if ask(prometheus, expression)])
            return not unanswered

        assert await_condition(answered, timeout_s=HANG_S), unanswered
    assert worker.stop() == 0
