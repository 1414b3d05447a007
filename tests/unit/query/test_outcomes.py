"""Where a query's outcome goes: by default, and where the query named a topic for its reply."""

import json
from collections.abc import Iterator, Sequence

import pytest
from prometheus_client import CollectorRegistry

from schemas import wire
from schemas.events import AnswerEvent, AnswerStatus, Models
from schemas.replies import REPLY_REFUSED, ReplyRefusal, ReplyTo
from worker.domain import Query
from worker.errors import PoisonError, TransientError
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.in_flight import PoisonGuard, held_bytes
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.job import Service
from worker.query.pipeline import OnContexts, Outcome
from worker.settings import Settings
from worker.telemetry.metrics import Metrics

SETTINGS = Settings.model_validate({"worker_id": "tests", "kafka": {"reply_topics": ["replies"]}})
KAFKA = SETTINGS.kafka
ASKED_AT_S = 1_700_000_000.0
NAMES_A_TOPIC = (("kafka_correlationId", b"\x01\xff"), ("reply-topic", b"replies"), ("mine", b"x"))
EVENT = json.dumps({"id": "q1", "text": "Why?", "metadata": {"tenant": 7}}).encode()


class FakePipeline:
    """Finds nothing, or raises as told."""

    error: Exception | None = None

    async def run(self, query: Query, on_contexts: OnContexts | None = None) -> Outcome:
        if self.error is not None:
            raise self.error
        return Outcome(status="no_context")


class FakeReplyTopics(ReplyTopics):
    """Allows what the settings allow; of that, the broker says as told."""

    says: ReplyRefusal | None = None

    def __init__(self) -> None:
        super().__init__(KAFKA.model_copy(update={"bootstrap_servers": "127.0.0.1:9"}))

    async def resolve(self, asked: ReplyTo) -> ReplyTo | ReplyRefusal:
        if not self.allows(asked.topic):
            return ReplyRefusal.NOT_ALLOWED
        return self.says or asked

    def refuse(self, topic: str, refusal: ReplyRefusal) -> None:
        self.says = refusal


class Bench:
    """Jobs of a worker whose replies are counted."""

    def __init__(self) -> None:
        self.pipeline = FakePipeline()
        self.reply_topics = FakeReplyTopics()
        self.metrics = Metrics(CollectorRegistry())
        self.service = Service(
            SETTINGS,
            self.pipeline,  # type: ignore[arg-type]  # a fake
            self.metrics,
            Models(),
            PoisonGuard(limit=1.0, window=100),
            self.reply_topics,
            lambda: ASKED_AT_S + 1,
        )

    async def outcome(self, value: bytes | None = EVENT, headers: wire.Headers = NAMES_A_TOPIC) -> Publication:
        record = Record(Position("queries", 2, 41), b"key", value, tuple(headers), int(ASKED_AT_S * 1000))
        return await self.service.job(record).run()

    def counted(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("rerank_worker_replies_total", {"outcome": outcome})


@pytest.fixture
def bench() -> Iterator[Bench]:
    return Bench()


def the_failed(letter: Publication) -> tuple[Publication, AnswerEvent]:
    """The one reply beside a dead letter."""
    assert letter.topic == KAFKA.dead_letter_topic
    [reply] = letter.also
    return reply, wire.decode_answer(reply.value)


async def test_without_a_reply_topic_all_is_as_ever(bench: Bench) -> None:
    answer = await bench.outcome(headers=())
    assert (answer.topic, answer.asked_for, answer.partition, answer.also) == (KAFKA.answer_topic, False, -1, ())
    letter = await bench.outcome(b"{", headers=())
    assert (letter.topic, letter.also) == (KAFKA.dead_letter_topic, ())


async def test_an_answer_goes_to_the_reply_topic_instead_with_what_correlates_it(bench: Bench) -> None:
    answer = await bench.outcome()
    assert (answer.topic, answer.asked_for, answer.key, answer.also) == ("replies", True, b"key", ())
    assert answer.headers == list(NAMES_A_TOPIC[:2])
    answer.acknowledged()
    assert bench.counted("sent") == 1


async def test_springs_partition_is_kept(bench: Bench) -> None:
    headers = (*NAMES_A_TOPIC, ("kafka_replyPartition", b"\x00\x00\x00\x03"))
    assert (await bench.outcome(headers=headers)).partition == 3
    reply, _ = the_failed(await bench.outcome(b"{", headers))
    assert reply.partition == 3


async def test_a_failure_is_a_dead_letter_and_is_told_to_whom_asked(bench: Bench) -> None:
    bench.pipeline.error = PoisonError("unknown_collection", "there is no collection 'x'")
    letter = await bench.outcome()
    assert letter.value == EVENT
    reply, failed = the_failed(letter)
    assert (reply.topic, reply.asked_for, reply.key, reply.headers) == ("replies", True, b"key", letter.headers[:2])
    assert (failed.query_id, failed.query_text, failed.metadata) == ("q1", "Why?", {"tenant": 7})
    assert failed.status is AnswerStatus.FAILED
    assert failed.failure is not None
    assert failed.failure.model_dump() == {
        "kind": "poison",
        "code": "unknown_collection",
        "reason": "there is no collection 'x'",
    }
    assert failed.timings_ms.total == 1_000
    # What it holds counts for the bound on what waits to be published.
    assert held_bytes(letter) > held_bytes(reply) > len(reply.value or b"")
    letter.acknowledged()
    assert bench.counted("sent") == 0
    reply.acknowledged()
    assert bench.counted("sent") == 1


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (TransientError("chroma.internal is away", code="recall_failed"), "transient", "retries_exhausted"),
        (RuntimeError("a bug"), "poison", "internal_error"),
    ],
)
async def test_a_failure_says_what_its_dead_letter_says_and_no_more(
    bench: Bench, error: Exception, kind: str, code: str
) -> None:
    bench.pipeline.error = error
    letter = await bench.outcome()
    info = wire.dead_letter_info(letter.headers)
    _, failed = the_failed(letter)
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.code) == (kind, code) == (info.error_kind, info.error_class)
    assert failed.failure.reason == info.error_message
    assert "chroma.internal" not in failed.model_dump_json()


async def test_a_reason_of_many_lines_is_one_as_in_the_dead_letter(bench: Bench) -> None:
    bench.pipeline.error = PoisonError("invalid_filter", "first\nsecond \x1b[31m" + "x" * 1_000)
    letter = await bench.outcome()
    _, failed = the_failed(letter)
    assert failed.failure is not None
    assert failed.failure.reason == wire.dead_letter_info(letter.headers).error_message
    assert failed.failure.reason.startswith("first second [31mx")


UNREADABLE: dict[str, tuple[bytes | None, tuple[str, str, str]]] = {
    "no JSON": (b"{", ("", "", "invalid_json")),
    "a tombstone": (None, ("", "", "tombstone")),
    "a wrong field": (b'{"id": "q1", "text": "Why?", "top_k": 0}', ("q1", "Why?", "invalid_schema")),
    "too large": (b'{"id": "q1", "text": "Why?", "x": "%s"}' % (b"x" * 70_000), ("", "", "event_too_large")),
}


@pytest.mark.parametrize(("value", "told"), UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_an_event_that_can_not_be_decoded_is_told_of_as_far_as_it_can_be(
    bench: Bench, value: bytes | None, told: tuple[str, str, str]
) -> None:
    _, failed = the_failed(await bench.outcome(value))
    assert failed.failure is not None
    assert (failed.query_id, failed.query_text, failed.failure.code) == told


@pytest.mark.parametrize("topic", [b"elsewhere", b"rag.queries", b"__consumer_offsets", b"\xff\xfe", b"../etc"])
async def test_a_topic_off_the_list_gets_nothing_and_the_answer_says_so(bench: Bench, topic: bytes) -> None:
    headers = (("reply-topic", topic),)
    answer = await bench.outcome(headers=headers)
    assert (answer.topic, answer.asked_for) == (KAFKA.answer_topic, False)
    assert answer.headers == [*headers, (REPLY_REFUSED, b"not_allowed")]
    letter = await bench.outcome(b"{", headers=headers)
    assert letter.also == ()
    for publication in (answer, letter):
        publication.acknowledged()
    assert bench.counted("not_allowed") == 2


async def test_who_names_the_answer_topic_itself_is_refused_nothing(bench: Bench) -> None:
    answer = await bench.outcome(headers=(("reply-topic", KAFKA.answer_topic.encode()),))
    assert (answer.topic, answer.asked_for) == (KAFKA.answer_topic, False)
    assert wire.header(answer.headers, REPLY_REFUSED) is None


@pytest.mark.parametrize("says", [ReplyRefusal.NOT_THERE, ReplyRefusal.NOT_WRITABLE])
async def test_a_topic_the_broker_does_not_have_for_us_is_not_tried(bench: Bench, says: ReplyRefusal) -> None:
    bench.reply_topics.says = says
    answer = await bench.outcome()
    assert (answer.topic, wire.header(answer.headers, REPLY_REFUSED)) == (KAFKA.answer_topic, says)
    assert (await bench.outcome(b"{")).also == ()


async def test_an_answer_its_reply_topic_refuses_goes_to_the_answer_topic(bench: Bench) -> None:
    answer = await bench.outcome()
    [instead] = answer.refused(PoisonError("not_writable", "no")) or []
    assert (instead.topic, instead.asked_for, instead.value) == (KAFKA.answer_topic, False, answer.value)
    assert wire.header(instead.headers, REPLY_REFUSED) == "not_writable"
    assert bench.reply_topics.says is ReplyRefusal.NOT_WRITABLE
    instead.acknowledged()
    assert (bench.counted("not_writable"), bench.counted("sent")) == (1, 0)


async def test_an_answer_too_large_for_its_reply_topic_is_a_failure_told_there(bench: Bench) -> None:
    answer = await bench.outcome()
    [letter] = answer.refused(PoisonError("answer_too_large", "too large")) or []
    reply, failed = the_failed(letter)
    assert failed.failure is not None
    assert (reply.topic, failed.failure.code) == ("replies", "answer_too_large")


@pytest.mark.parametrize("reason", ["not_there", "not_writable", "answer_too_large"])
async def test_a_failure_its_reply_topic_refuses_is_left_at_the_dead_letter(bench: Bench, reason: str) -> None:
    reply, _ = the_failed(await bench.outcome(b"{"))
    instead: Sequence[Publication] | None = reply.refused(PoisonError(reason, "no"))
    assert instead == []
    assert bench.counted(reason) == 1
    assert bench.reply_topics.says == (None if reason == "answer_too_large" else reason)


async def test_a_dead_letter_that_does_not_fit_leaves_the_reply_as_it_is(bench: Bench) -> None:
    letter = await bench.outcome(b"{")
    [note] = letter.refused(PoisonError("answer_too_large", "too large")) or []
    assert note.also == (), "the reply goes out beside the note as it would beside the letter"
