"""One document event, from its bytes to what becomes of it: nothing to publish, or a dead letter as it came."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from schemas import wire
from worker.documents.stream.changes import Change, Outcome
from worker.documents.stream.decode import Decoder
from worker.documents.stream.job import IndexService
from worker.errors import FatalError, PoisonError
from worker.kafka.consume.records import Record
from worker.kafka.deliver.dead_letter import DeadLetter
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.settings import IndexSettings, KafkaSettings
from worker.settings.kafka import for_documents
from worker.telemetry.marks import MARK
from worker.telemetry.metrics import Metrics
from worker.telemetry.otlp import new_provider
from worker.telemetry.tracing import Names, Tracing

MakeRecord = Callable[..., Record]
KAFKA = for_documents(KafkaSettings())


class FakeIndexing:
    """Takes every change, or raises as told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.outcome: Outcome | Exception = "written"
        self.mark: object = None
        """What a batch that has the last change would be linked to."""

    async def apply(self, change: Change) -> Outcome:
        self.changes.append(change)
        self.mark = MARK.get()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Bench:
    """Jobs of an index whose events are counted."""

    def __init__(self, **settings: object) -> None:
        self.indexing = FakeIndexing()
        self.metrics = Metrics(CollectorRegistry())
        self.guard = PoisonGuard(limit=1.0, window=100)
        self.decoder = Decoder(IndexSettings.model_validate(settings), topic="docs", collection="documents")
        self.now_s = 0.0
        self.tracing = Tracing()

    async def outcome(self, record: Record) -> DeadLetter | None:
        service = IndexService(
            KAFKA,
            self.decoder,
            self.indexing,  # type: ignore[arg-type]  # a fake
            self.metrics,
            self.guard,
            lambda: self.now_s,
            self.tracing,
        )
        letter = await service.job(record).run()
        if letter is not None:
            letter.acknowledged()
        return letter

    def counted(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"rerank_worker_{name}", labels)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_event_that_is_brought_in_publishes_nothing(bench: Bench, make_record: MakeRecord) -> None:
    assert await bench.outcome(make_record(b"doc-1", {"text": "Body."}, offset=7)) is None
    [change] = bench.indexing.changes
    assert (change.id, change.document and change.document.text) == ("doc-1", "Body.")
    assert (change.mark.partition, change.mark.offset) == (2, 7)
    assert bench.counted("documents_total", outcome="written") == 1


async def test_how_fresh_it_is_counts_from_the_change_itself(bench: Bench, make_record: MakeRecord) -> None:
    record = make_record(b"doc-1", {"text": "Body."})
    bench.now_s = (record.timestamp_s or 0) + 2.0
    await bench.outcome(record)
    assert bench.counted("index_freshness_seconds_sum") == pytest.approx(2.0)
    # What had been undone, or was so already, was not made findable now.
    for outcome in ("superseded", "unchanged"):
        bench.indexing.outcome = outcome
        await bench.outcome(record)
    assert bench.counted("index_freshness_seconds_count") == 1


async def test_an_event_about_no_document_is_passed_over(make_record: MakeRecord) -> None:
    bench = Bench(events="debezium", text="{title}")
    assert await bench.outcome(make_record(b"m", {"op": "m", "message": {}, "source": {}})) is None
    assert bench.indexing.changes == []
    assert bench.counted("documents_total", outcome="ignored") == 1


async def test_what_can_not_be_read_is_dead_lettered_as_it_came(bench: Bench, make_record: MakeRecord) -> None:
    record = make_record(b"doc-1", b"{", offset=7)
    letter = await bench.outcome(record)
    assert letter is not None
    assert (letter.topic, letter.key, letter.value) == ("rag.documents.dlq", b"doc-1", b"{")
    info = wire.dead_letter_info(letter.headers)
    assert (info.error_kind, info.error_class) == ("poison", "invalid_json")
    assert (info.source_topic, info.source_partition, info.source_offset) == ("docs", 2, 7)
    assert bench.counted("dead_letters_total", reason="invalid_json") == 1


FAILING = {
    "what the store never takes": (PoisonError("store_refused", "no"), "store_refused"),
    "a bug": (RuntimeError("chroma.internal"), "internal_error"),
}


@pytest.mark.parametrize(("error", "reason"), FAILING.values(), ids=FAILING.keys())
async def test_a_document_that_fails_is_its_own_dead_letter(
    bench: Bench, make_record: MakeRecord, error: Exception, reason: str
) -> None:
    bench.indexing.outcome = error
    letter = await bench.outcome(make_record(b"doc-1", {"text": "Body."}))
    assert letter is not None
    assert wire.dead_letter_info(letter.headers).error_class == reason
    assert "chroma.internal" not in str(letter.headers)


async def test_whatever_decoding_brings_out_is_that_events_own_dead_letter(
    bench: Bench, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(record: Record) -> None:
        raise RecursionError("unforeseen")

    monkeypatch.setattr(bench.decoder, "decode", broken)
    letter = await bench.outcome(make_record(b"doc-1", {"text": "Body."}))
    assert letter is not None
    assert wire.dead_letter_info(letter.headers).error_class == "internal_error"


async def test_a_fatal_error_ends_the_process(bench: Bench, make_record: MakeRecord) -> None:
    bench.indexing.outcome = FatalError("the store refuses the credentials")
    with pytest.raises(FatalError):
        await bench.outcome(make_record(b"doc-1", {"text": "Body."}))


async def test_a_topic_full_of_poison_stops_the_index(bench: Bench, make_record: MakeRecord) -> None:
    bench.guard = PoisonGuard(limit=0.5, window=2)
    await bench.outcome(make_record(b"doc-1", b"{"))
    with pytest.raises(FatalError, match="2 of the last 2"):
        await bench.outcome(make_record(b"doc-1", b"{"))


async def test_a_dead_letter_that_does_not_fit_becomes_a_note(bench: Bench, make_record: MakeRecord) -> None:
    letter = await bench.outcome(make_record(b"doc-1", b"{" * 1_000))
    assert letter is not None
    [note] = letter.refused(PoisonError("answer_too_large", "too large")) or []
    assert (note.topic, note.key, note.value) == (letter.topic, b"doc-1", None)
    assert wire.header(note.headers, wire.VALUE_OMITTED) == "true"


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01".encode())


@pytest.fixture
def recorded(bench: Bench) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = new_provider(SimpleSpanProcessor(exporter), worker_id="w1", ratio=1.0)
    bench.tracing = Tracing(provider.get_tracer("tests"), Names(group="index", client_id="w1"))
    return exporter


def by_name(recorded: InMemorySpanExporter) -> Mapping[str, ReadableSpan]:
    return {span.name: span for span in recorded.get_finished_spans()}


def of(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}


async def test_an_event_is_traced_from_its_producer_to_the_store(
    bench: Bench, recorded: InMemorySpanExporter, make_record: MakeRecord
) -> None:
    await bench.outcome(replace(make_record(b"doc-1", {"text": "Secret."}), headers=(SAMPLED,)))
    spans = by_name(recorded)
    process, upsert = spans["process docs"], spans["upsert documents"]
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is not None
    assert (f"{process.parent.trace_id:032x}", f"{process.parent.span_id:016x}") == (TRACE, PARENT)
    assert [f"{link.context.span_id:016x}" for link in process.links] == [PARENT]
    assert of(process)["messaging.consumer.group.name"] == "index"
    assert of(process)["messaging.kafka.offset"] == 41
    assert of(process)["rerank_worker.document_id"] == "doc-1"
    assert of(process)["rerank_worker.outcome"] == "written"
    assert upsert.kind is SpanKind.CLIENT
    assert upsert.parent is not None
    assert upsert.parent.span_id == process.context.span_id
    assert of(upsert) == {
        "db.system.name": "chroma",
        "db.collection.name": "documents",
        "db.operation.name": "upsert",
    }
    # The batch that it shares with others is linked to it.
    assert bench.indexing.mark == upsert.context
    assert "Secret" not in " ".join(span.to_json() for span in spans.values())


async def test_a_delete_names_no_collection_and_a_dead_letter_is_an_error(
    bench: Bench, recorded: InMemorySpanExporter, make_record: MakeRecord
) -> None:
    bench.indexing.outcome = "deleted"
    await bench.outcome(make_record(b"doc-1", None))
    assert "delete" in by_name(recorded)
    recorded.clear()
    bench.indexing.outcome = PoisonError("foreign_document", "it is a file's")
    await bench.outcome(make_record(b"doc-1", {"text": "Body."}))
    for span in by_name(recorded).values():
        assert span.status.status_code is StatusCode.ERROR
    assert of(by_name(recorded)["process docs"])["error.type"] == "foreign_document"


async def test_how_fresh_it_is_names_the_trace(
    bench: Bench, recorded: InMemorySpanExporter, make_record: MakeRecord
) -> None:
    await bench.outcome(replace(make_record(b"doc-1", {"text": "Body."}), headers=(SAMPLED,)))
    page = openmetrics(bench.metrics.registry).decode()
    [line] = [line for line in page.splitlines() if "index_freshness_seconds_bucket" in line and "# {" in line]
    assert f'trace_id="{TRACE}"' in line


async def test_nothing_is_traced_where_nobody_wants_it(bench: Bench, make_record: MakeRecord) -> None:
    await bench.outcome(replace(make_record(b"doc-1", {"text": "Body."}), headers=(SAMPLED,)))
    assert bench.indexing.mark is None
    assert "# {" not in openmetrics(bench.metrics.registry).decode()
