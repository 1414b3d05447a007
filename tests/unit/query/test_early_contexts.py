"""Contexts leave before their answer, say what it will say of them, and are nothing that it waits for."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from schemas import wire
from schemas.contexts import ContextsEvent
from schemas.events import AnswerEvent, Models
from tests.fakes.producing import FakeClient, fake_clients
from tests.fakes.stages import FakeAnswerer, FakeRecall, FakeReversingReranker
from tests.patience import HANG_S
from worker.domain import Answerer, Context, GeneratedAnswer, Query, Reranker
from worker.errors import TransientError
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.publish.best_effort import BestEffort
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.early_contexts import EarlyContexts
from worker.query.job import PoisonGuard, Service
from worker.query.pipeline import Pipeline
from worker.settings import Settings
from worker.telemetry.metrics import Metrics
from worker.telemetry.otlp import new_provider
from worker.telemetry.tracing import OFF, Names, Tracing

SETTINGS = Settings.model_validate({"worker_id": "w", "rerank": {"top_n": 2}})
ASKED_AT_S = 1_700_000_000.0
EVENT = json.dumps({"id": "q1", "text": "Why?", "metadata": {"tenant": 7}}).encode()
HEADERS = (("correlation-id", b"c1"), ("mine", b"x"))


@dataclass
class FakePatientAnswerer(FakeAnswerer):
    """Writes until it is told to end."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        async with asyncio.timeout(HANG_S):
            await self.may_end.wait()
        return await super().answer(query, contexts)


class Bench:
    """Queries of a worker that sends contexts to a topic, which takes them as its name says."""

    def __init__(
        self, topic: str, reranker: Reranker | None, answerer: Answerer | None, tracing: Tracing = OFF
    ) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.producer = BestEffort(SETTINGS.kafka, on_outcome=self._count)
        self.counted = asyncio.Event()
        pipeline = Pipeline(
            FakeRecall(), reranker or FakeReversingReranker(), answerer or FakeAnswerer(), SETTINGS, tracing=tracing
        )
        models = Models(embedding="e", cross_encoder="c")
        self.service = Service(
            SETTINGS,
            pipeline,
            self.metrics,
            models,
            PoisonGuard(limit=1.0, window=100),
            ReplyTopics(SETTINGS.kafka),
            lambda: ASKED_AT_S + 1,
            tracing=tracing,
            early_contexts=EarlyContexts(topic, self.producer, models, lambda: ASKED_AT_S + 0.5),
        )

    async def answer(self) -> AnswerEvent:
        """Ask the one question and have its answer acknowledged."""
        record = Record(Position("queries", 0, 1), b"key", EVENT, HEADERS, int(ASKED_AT_S * 1000))
        publication = await self.service.job(record).run()
        publication.acknowledged()
        assert publication.topic == SETTINGS.kafka.answer_topic
        return wire.decode_answer(publication.value)

    @property
    def sent(self) -> list[ContextsEvent]:
        [client] = FakeClient.made
        return [wire.decode_contexts(record["value"]) for record in client.records]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"rerank_worker_{name}", labels)

    def _count(self, outcome: str) -> None:
        self.metrics.contexts_events.labels(outcome=outcome).inc()
        self.counted.set()


@asynccontextmanager
async def a_bench(
    monkeypatch: pytest.MonkeyPatch,
    topic: str = "contexts",
    *,
    reranker: Reranker | None = None,
    answerer: Answerer | None = None,
    tracing: Tracing = OFF,
) -> AsyncIterator[Bench]:
    fake_clients(monkeypatch)
    bench = Bench(topic, reranker, answerer, tracing)
    bench.producer.start()
    try:
        async with asyncio.timeout(HANG_S):
            yield bench
    finally:
        await bench.producer.close()


async def test_contexts_are_out_while_the_answer_is_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = FakePatientAnswerer()
    async with a_bench(monkeypatch, answerer=answerer) as bench:
        answering = asyncio.create_task(bench.answer())
        await bench.counted.wait()
        assert not answering.done()
        [contexts] = bench.sent
        assert bench.sample("contexts_events_total", outcome="sent") == 1
        answerer.may_end.set()
        answer = await answering
    assert [each.document_id for each in contexts.contexts] == ["d3", "d2"]
    shared = {"query_id", "query_text", "attempt_id", "contexts", "metadata", "worker", "schema_version", "models"}
    told = answer.model_copy(update={"models": answer.models.model_copy(update={"answer": None})})
    assert contexts.model_dump(include=shared) == told.model_dump(include=shared)
    assert contexts.attempt_id
    assert contexts.stage == "contexts"
    assert (contexts.timings_ms.total, answer.timings_ms.total) == (500, 1_000)


async def test_a_record_of_contexts_has_the_key_and_the_headers_of_the_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_bench(monkeypatch) as bench:
        await bench.answer()
        await bench.counted.wait()
        [client] = FakeClient.made
        assert client.sent == ["contexts"]
        [record] = client.records
        assert (record["key"], record["headers"], record["partition"]) == (b"key", [HEADERS[0]], -1)


@pytest.mark.parametrize("topic", ["missing", "forbidden", "small", "full", "broken"])
async def test_a_topic_that_takes_none_costs_the_answer_nothing_and_is_counted(
    monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    async with a_bench(monkeypatch, topic) as bench:
        assert (await bench.answer()).answer is not None
        await bench.counted.wait()
        assert bench.sample("contexts_events_total", outcome="failed") == 1
        assert bench.sample("time_to_contexts_seconds_count") == 0


async def test_a_broker_that_does_not_answer_costs_the_answer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch, "away") as bench:
        assert (await bench.answer()).answer is not None
        assert not bench.counted.is_set()


async def test_contexts_that_have_no_room_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.kafka.publish.best_effort.MOST_BYTES", 10)
    async with a_bench(monkeypatch) as bench:
        assert (await bench.answer()).answer is not None
        assert bench.sample("contexts_events_total", outcome="dropped") == 1
        assert bench.sent == []


async def test_both_latencies_are_measured_from_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch) as bench:
        await bench.answer()
        await bench.counted.wait()
        assert bench.sample("time_to_contexts_seconds_count") == 1
        assert bench.sample("time_to_contexts_seconds_sum") == 1
        assert bench.sample("end_to_end_duration_seconds_count", status="ok") == 1


async def test_each_attempt_has_an_id_of_its_own_that_its_contexts_and_its_answer_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_bench(monkeypatch) as bench:
        answers = [await bench.answer() for _ in range(2)]
        while len(bench.sent) < 2:
            await asyncio.sleep(0.001)
        ids = [contexts.attempt_id for contexts in bench.sent]
    assert ids == [answer.attempt_id for answer in answers]
    assert len(set(ids)) == 2


async def test_contexts_nobody_scored_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch, reranker=FakeReversingReranker(TransientError("oom"))) as bench:
        await bench.answer()
        await bench.counted.wait()
        [contexts] = bench.sent
    assert [(each.document_id, each.rerank_score) for each in contexts.contexts] == [("d1", None), ("d2", None)]
    assert [(each.stage, each.code) for each in contexts.degradations] == [("rerank", "rerank_failed")]


async def test_a_traced_query_hands_on_the_context_of_a_span_that_ends_when_the_broker_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = InMemorySpanExporter()
    provider = new_provider(SimpleSpanProcessor(recorded), worker_id="w", ratio=1.0)
    tracing = Tracing(provider.get_tracer("tests"), Names(client_id="w"))
    async with a_bench(monkeypatch, tracing=tracing) as bench:
        await bench.answer()
        await bench.counted.wait()
        [client] = FakeClient.made
        [record] = client.records
    provider.shutdown()
    spans = {span.name: span for span in recorded.get_finished_spans()}
    sending, process = spans["send contexts"], spans["process queries"]
    assert sending.parent is not None
    assert sending.parent.span_id == process.context.span_id
    assert f"{sending.context.span_id:016x}".encode() in dict(record["headers"])["traceparent"]
