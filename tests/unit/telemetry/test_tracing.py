"""The spans of one query, as OpenTelemetry's own exporter for tests gets them; and none where none are wanted."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from schemas import wire
from schemas.events import Models
from tests.patience import HANG_S
from worker.batching.batcher import BatchReport, MicroBatcher, at_once
from worker.batching.queue import Limits
from worker.domain import Candidate, Context, GeneratedAnswer, Query, Recalled, Usage
from worker.errors import TransientError
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.job import Service
from worker.query.pipeline import Pipeline
from worker.settings import Settings
from worker.telemetry.metrics import Metrics
from worker.telemetry.otlp import new_provider
from worker.telemetry.tracing import Names, Tracing, record_batch

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01".encode())
NOT_SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00".encode())
NAMES = Names(group="workers", client_id="w1", cross_encoder="MiniLM", answerer="llama", asks_llm=True)
QUESTION = "Which privileges does Debezium need?"
SETTINGS = Settings(worker_id="w1")


@pytest.fixture
def recorded() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(recorded: InMemorySpanExporter) -> Iterator[Tracer]:
    provider = new_provider(SimpleSpanProcessor(recorded), worker_id="w1", ratio=1.0)
    yield provider.get_tracer("tests")
    provider.shutdown()


@dataclass
class Stages:
    """All three stages, the second with micro-batches of the worker's own."""

    batcher: "MicroBatcher[str, float]"
    error: Exception | None = None

    model_name = "llama"

    async def recall(self, query: Query) -> Recalled:
        return Recalled(Candidate(f"d{rank}", f"secret {rank}", rank, distance=0.1) for rank in (1, 2))

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        scores = await self.batcher.submit([candidate.text for candidate in candidates])
        return [
            Context(each, rank, score, score)
            for rank, (each, score) in enumerate(zip(candidates, scores, strict=True), 1)
        ]

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        if self.error is not None:
            raise self.error
        return GeneratedAnswer("secret", ["d1"], "llama", Usage(prompt_tokens=70, completion_tokens=5))


async def answered(
    tracing: Tracing,
    *headers: tuple[str, bytes | None],
    value: bytes | None = None,
    error: Exception | None = None,
    metrics: Metrics | None = None,
) -> Publication:
    """Run one query and have its outcome acknowledged."""
    reported = asyncio.Event()

    def on_batch(report: BatchReport) -> None:
        reported.set()
        if tracing.tracer is not None:
            record_batch(
                tracing.tracer, "rerank", seconds=1.5, items=report.items, cost=report.cost, marks=report.marks
            )

    batcher: MicroBatcher[str, float] = MicroBatcher(
        at_once(lambda texts: [1.0 for _ in texts]),
        name="rerank",
        limits=Limits(8, 8, max_wait_s=0),
        cost=lambda _: 1,
        on_batch=on_batch,
    )
    stages = Stages(batcher, error)
    service = Service(
        SETTINGS,
        Pipeline(stages, stages, stages, SETTINGS, tracing=tracing),
        metrics or Metrics(CollectorRegistry()),
        Models(embedding="e", cross_encoder="MiniLM", prior_weight=0.0),
        PoisonGuard(limit=1.0, window=100),
        ReplyTopics(SETTINGS.kafka),
        tracing=tracing,
    )
    asked = QUESTION.encode().join([b'{"id": "q1", "text": "', b'"}']) if value is None else value
    publication = await service.job(Record(Position("rag.queries", 2, 41), b"k1", asked, headers, 0)).run()
    publication.acknowledged()
    if publication.topic == SETTINGS.kafka.answer_topic:
        # A batch is reported after its callers have their results.
        async with asyncio.timeout(HANG_S):
            await reported.wait()
    await batcher.close(timeout_s=10)
    return publication


def by_name(recorded: InMemorySpanExporter) -> Mapping[str, ReadableSpan]:
    return {span.name: span for span in recorded.get_finished_spans()}


def of(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}


async def test_a_query_is_one_trace_from_its_event_to_its_answer(
    recorded: InMemorySpanExporter, tracer: Tracer
) -> None:
    publication = await answered(Tracing(tracer, NAMES), SAMPLED, ("baggage", b"a=1"))
    spans = by_name(recorded)
    process = spans["process rag.queries"]
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is not None
    assert f"{process.parent.span_id:016x}" == PARENT
    assert [f"{link.context.span_id:016x}" for link in process.links] == [PARENT]
    assert of(process) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "rag.queries",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 41,
        "messaging.kafka.message.key": "k1",
        "messaging.consumer.group.name": "workers",
        "messaging.client.id": "w1",
        "rerank_worker.query_id": "q1",
        "rerank_worker.outcome": "ok",
    }
    inside = {"retrieval documents", "rerank MiniLM", "chat llama", "send rag.answers"}
    assert set(spans) == {"process rag.queries", "batch rerank", *inside}
    for name in inside:
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == process.context.span_id, name
        assert f"{spans[name].context.trace_id:032x}" == TRACE
    assert of(spans["chat llama"])["gen_ai.usage.input_tokens"] == 70
    assert of(spans["rerank MiniLM"])["openinference.span.kind"] == "RERANKER"
    assert of(spans["retrieval documents"])["rerank_worker.candidates"] == 2
    assert spans["send rag.answers"].kind is SpanKind.PRODUCER
    # The answer's reader goes on below the send; what else came with the query is echoed.
    sent = f"00-{TRACE}-{spans['send rag.answers'].context.span_id:016x}-01"
    assert list(publication.headers) == [("baggage", b"a=1"), ("traceparent", sent.encode())]


async def test_a_micro_batch_is_a_trace_of_its_own_linked_to_its_queries(
    recorded: InMemorySpanExporter, tracer: Tracer
) -> None:
    await answered(Tracing(tracer, NAMES), SAMPLED)
    spans = by_name(recorded)
    batch = spans["batch rerank"]
    assert batch.parent is None
    assert [link.context.span_id for link in batch.links] == [spans["rerank MiniLM"].context.span_id]
    assert of(batch) == {"rerank_worker.batch.items": 2, "rerank_worker.batch.cost": 2}
    assert batch.start_time is not None
    assert batch.end_time is not None
    assert batch.end_time - batch.start_time == 1_500_000_000


async def test_a_query_without_context_begins_a_trace(recorded: InMemorySpanExporter, tracer: Tracer) -> None:
    await answered(Tracing(tracer, NAMES))
    process = by_name(recorded)["process rag.queries"]
    assert process.parent is None
    assert process.links == ()


@pytest.mark.parametrize("header", [NOT_SAMPLED, ("traceparent", b"\xff"), ("traceparent", b"00-abc-def-01")])
async def test_what_is_not_traced_goes_on_as_it_came(recorded: InMemorySpanExporter, header: tuple[str, bytes]) -> None:
    provider = new_provider(SimpleSpanProcessor(recorded), worker_id="w1", ratio=0.0)
    publication = await answered(Tracing(provider.get_tracer("tests"), NAMES), header)
    assert list(publication.headers) == [header]
    assert recorded.get_finished_spans() == ()
    publication = await answered(Tracing(), header)
    assert list(publication.headers) == [header]


async def test_no_text_is_in_a_span_unless_it_is_asked_for(recorded: InMemorySpanExporter, tracer: Tracer) -> None:
    error = TransientError(f"the endpoint said: {QUESTION}", code="llm_unavailable")
    await answered(Tracing(tracer, NAMES), error=error)
    await answered(Tracing(tracer, NAMES), value=b'{"id": "q1", "text": 1}')
    told = " ".join(span.to_json() for span in recorded.get_finished_spans())
    assert QUESTION not in told
    assert "secret" not in told
    recorded.clear()
    await answered(Tracing(tracer, NAMES, texts=True))
    assert of(by_name(recorded)["rerank MiniLM"])["reranker.query"] == QUESTION


async def test_a_stage_that_fails_is_an_error_with_its_code_and_the_query_is_none(
    recorded: InMemorySpanExporter, tracer: Tracer
) -> None:
    await answered(Tracing(tracer, NAMES), error=TransientError("down", code="llm_timeout"))
    spans = by_name(recorded)
    assert of(spans["chat llama"])["error.type"] == "llm_timeout"
    assert spans["chat llama"].status.status_code is StatusCode.ERROR
    assert spans["chat llama"].events == ()
    assert of(spans["process rag.queries"])["rerank_worker.outcome"] == "degraded"
    assert spans["process rag.queries"].status.status_code is StatusCode.UNSET


async def test_a_dead_letter_is_an_error_of_the_query_and_keeps_the_events_own_context(
    recorded: InMemorySpanExporter, tracer: Tracer
) -> None:
    publication = await answered(Tracing(tracer, NAMES), SAMPLED, value=b"{")
    assert of(by_name(recorded)["process rag.queries"])["error.type"] == "invalid_json"
    assert wire.header(publication.headers, "traceparent") == SAMPLED[1].decode()


async def test_histograms_name_a_trace_as_their_exemplar(tracer: Tracer) -> None:
    metrics = Metrics(CollectorRegistry())
    await answered(Tracing(tracer, NAMES), SAMPLED, metrics=metrics)
    page = generate_latest(metrics.registry).decode()
    [line] = [line for line in page.splitlines() if "end_to_end_duration_seconds_bucket" in line and "# {" in line]
    assert f'trace_id="{TRACE}"' in line


async def test_what_is_not_traced_has_no_exemplar() -> None:
    metrics = Metrics(CollectorRegistry())
    await answered(Tracing(), SAMPLED, metrics=metrics)
    assert "# {" not in generate_latest(metrics.registry).decode()
