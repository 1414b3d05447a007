"""Request and reply on real Kafka, under both guarantees: the answer, the failure, and what a made-up topic costs."""

import uuid
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas import wire
from schemas.events import AnswerEvent, AnswerStatus, QueryEvent
from schemas.replies import REPLY_REFUSED
from tests.patience import HANG_S
from tests.topics import committed, held
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

QUESTION = "What permissions does Debezium need on MySQL?"
CORRELATION = "kafka_correlationId"

Asked = tuple[str, bytes, list[tuple[str, bytes | None]]]


@pytest.fixture
def replies(kafka_settings: Callable[..., KafkaSettings]) -> tuple[KafkaSettings, str]:
    """A worker's topics, and one of three partitions for replies."""
    kafka = kafka_settings()
    topic = f"replies-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(common_config(kafka))
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(HANG_S)
    return kafka, topic


def question(name: str, **changes: object) -> bytes:
    return wire.encode_query(QueryEvent.model_validate({"id": name, "text": QUESTION, "generate": False, **changes}))


def ask(kafka: KafkaSettings, asked: Sequence[Asked]) -> None:
    producer = Producer(common_config(kafka))
    for name, value, headers in asked:
        producer.produce(kafka.query_topic, value, name.encode(), headers=[(CORRELATION, name.encode()), *headers])
    assert producer.flush(HANG_S) == 0


def by_correlation(messages: Sequence[Message]) -> dict[str, Message]:
    found = {str(wire.header(message.headers() or [], CORRELATION)): message for message in messages}
    assert len(found) == len(messages), "nobody hears twice"
    return found


def event_of(message: Message) -> AnswerEvent:
    return wire.decode_answer(message.value())


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_answers_and_failures_go_where_the_query_wants_them_if_that_is_allowed(
    replies: tuple[KafkaSettings, str], collection: RecallSettings, start_worker: Callable, guarantee: str
) -> None:
    kafka, topic = replies
    worker = start_worker(
        kafka, collection, KAFKA__DELIVERY_GUARANTEE=guarantee, KAFKA__REPLY_TOPICS=f"{topic[:10]}*,elsewhere"
    ).await_ready()
    here = ("reply-topic", topic.encode())
    ask(
        kafka,
        [
            ("ordinary", question("ordinary"), []),
            ("answered", question("answered"), [here]),
            ("spring", question("spring"), [("kafka_replyTopic", here[1]), ("kafka_replyPartition", b"\0\0\0\2")]),
            ("no-such-partition", question("no-such-partition"), [here, ("kafka_replyPartition", b"\0\0\0\7")]),
            ("late", question("late", deadline_ms=1), [here]),
            ("broken", b'{"id": "broken-id"', [here]),
            ("wrong", b'{"id": "wrong-id", "text": 7}', [here]),
            ("tombstone", None, [here]),  # type: ignore[list-item]  # as Kafka has it
            ("lost", question("lost", collection="not-there"), [here]),
            ("forbidden", question("forbidden"), [("reply-topic", kafka.query_topic.encode())]),
            ("no-text", question("no-text"), [("reply-topic", b"\xff\xfe")]),
            ("made-up", question("made-up"), [("reply-topic", f"{topic}-made-up".encode())]),
            ("broken-made-up", b"{", [("reply-topic", f"{topic}-made-up".encode())]),
        ],
    )
    assert await_condition(lambda: committed(kafka) >= 13, timeout_s=HANG_S), worker.describe()

    replied = by_correlation(held(kafka, topic))
    statuses = {name: event_of(message).status for name, message in replied.items()}
    failed = dict.fromkeys(["broken", "wrong", "tombstone", "lost"], AnswerStatus.FAILED)
    answered = dict.fromkeys(["answered", "spring", "no-such-partition"], AnswerStatus.OK)
    assert statuses == {**answered, "late": AnswerStatus.EXPIRED, **failed}
    assert replied["spring"].partition() == 2
    assert [replied[name].key() for name in ("answered", "broken")] == [b"answered", b"broken"]
    told = {name: event_of(replied[name]) for name in failed}
    assert {name: (event.query_id, event.failure and event.failure.code) for name, event in told.items()} == {
        "broken": ("", "invalid_json"),
        "wrong": ("wrong-id", "invalid_schema"),
        "tombstone": ("", "tombstone"),
        "lost": ("lost", "unknown_collection"),
    }
    # For operators each failure is a dead letter, asked for or not.
    assert by_correlation(held(kafka, kafka.dead_letter_topic)).keys() == {*failed, "broken-made-up"}

    elsewhere = by_correlation(held(kafka, kafka.answer_topic))
    refused = {name: wire.header(message.headers() or [], REPLY_REFUSED) for name, message in elsewhere.items()}
    not_allowed = dict.fromkeys(["forbidden", "no-text"], "not_allowed")
    assert refused == {"ordinary": None, **not_allowed, "made-up": "not_there"}
    assert {event_of(message).status for message in elsewhere.values()} == {AnswerStatus.OK}
    assert worker.metric("rerank_worker_replies_total") == 12
    assert worker.stop() == 0
    assert committed(kafka) >= 13
