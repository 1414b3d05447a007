"""One document event, from its bytes to what becomes of it: nothing to publish, or a dead letter as it came."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

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
from worker.telemetry.metrics import Metrics

MakeRecord = Callable[..., Record]
KAFKA = for_documents(KafkaSettings())


class FakeIndexing:
    """Takes every change, or raises as told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.outcome: Outcome | Exception = "written"

    async def apply(self, change: Change) -> Outcome:
        self.changes.append(change)
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

    async def outcome(self, record: Record) -> DeadLetter | None:
        service = IndexService(
            KAFKA,
            self.decoder,
            self.indexing,  # type: ignore[arg-type]  # a fake
            self.metrics,
            self.guard,
            lambda: self.now_s,
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
