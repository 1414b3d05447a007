"""Asking through Kafka, on librdkafka's own broker with a stand-in for the worker that answers."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from schemas import wire
from schemas.events import AnswerEvent, AnswerStatus, DeadLetterInfo, Models, QueryEvent, Timings
from tests.patience import HANG_S
from worker.client import QueryClient
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.admin.topics import worker_topics
from worker.local.mock_kafka import MockCluster, mock_kafka
from worker.settings import KafkaSettings

UNANSWERABLE = "poison"
UNANSWERED = "silence"

LIST_OFFSETS = 2
"""The request's number in Kafka's protocol."""


class FakeWorker:
    """Answers each query twice, as at-least-once may; dead-letters one text and ignores another."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[tuple[bytes | None, wire.Headers]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(HANG_S)

    def _run(self) -> None:
        servers = {"bootstrap.servers": self._kafka.bootstrap_servers}
        consumer = Consumer(
            servers
            | {
                "group.id": self._kafka.group_id,
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        producer = Producer(servers)
        consumer.subscribe([self._kafka.query_topic])
        while not self._stop.is_set():
            message = consumer.poll(0.05)
            if message is None or message.error():
                continue
            headers = message.headers() or []
            self.seen.append((message.key(), headers))
            event = wire.decode_query(message.value())
            if event.text == UNANSWERABLE:
                info = DeadLetterInfo(
                    error_kind="poison",
                    error_class="unknown_collection",
                    error_message="no such collection",
                    source_topic=message.topic(),
                    source_partition=message.partition(),
                    source_offset=message.offset(),
                )
                producer.produce(
                    self._kafka.dead_letter_topic, message.value(), headers=wire.dead_letter_headers(info, headers)
                )
            elif event.text != UNANSWERED:
                value = wire.encode_answer(answered(event))
                for _ in range(2):
                    producer.produce(self._kafka.answer_topic, value, headers=wire.passthrough_headers(headers))
            producer.poll(0)
        producer.flush(HANG_S)
        consumer.close()


def answered(event: QueryEvent) -> AnswerEvent:
    return AnswerEvent(
        query_id=event.id,
        query_text=event.text,
        status=AnswerStatus.NO_CONTEXT,
        timings_ms=Timings(queue=0, recall=0, rerank=0, answer=0, total=0),
        models=Models(),
        worker="fake",
        answered_at=datetime.now(UTC),
    )


def query(text: str, query_id: str = "q") -> QueryEvent:
    return QueryEvent(id=query_id, text=text)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(startup_timeout_s=HANG_S)
    with mock_kafka(tmp_path_factory.mktemp("mock"), worker_topics(settings), partitions=2) as address:
        yield settings.model_copy(update={"bootstrap_servers": address})


@pytest.fixture(scope="module")
def worker(kafka: KafkaSettings) -> Iterator[FakeWorker]:
    with FakeWorker(kafka) as running:
        yield running


@pytest.fixture
def client(kafka: KafkaSettings, worker: FakeWorker) -> Iterator[QueryClient]:
    with QueryClient(kafka) as made:
        yield made


def test_an_answer_comes_back_to_whom_asked(client: QueryClient) -> None:
    assert client.ask(query("Why?", "one"), timeout_s=HANG_S).query_id == "one"


def test_answers_come_in_the_order_of_the_queries_and_each_is_told_once(client: QueryClient) -> None:
    events = [query(f"question {number}", f"q{number}") for number in range(20)]
    told: list[str] = []
    answers = client.ask_all(events, timeout_s=HANG_S, on_answer=lambda answer: told.append(answer.query_id))
    assert [answer.query_id for answer in answers] == [event.id for event in events]
    assert sorted(told) == sorted(event.id for event in events)


def test_an_id_that_was_used_before_gets_its_own_answer(client: QueryClient) -> None:
    first, second = (client.ask(query(text, "same"), timeout_s=HANG_S) for text in ("first", "second"))
    assert (first.query_text, second.query_text) == ("first", "second")


def test_a_query_is_keyed_by_its_id_and_carries_the_trace(client: QueryClient, worker: FakeWorker) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.ask(query("traced?", "traced"), timeout_s=HANG_S, traceparent=trace)
    [headers] = [headers for key, headers in worker.seen if key == b"traced"]
    assert wire.header(headers, wire.TRACEPARENT) == trace
    assert wire.header(headers, wire.CORRELATION_ID)


def test_a_dead_lettered_query_is_told_at_once_with_its_reason(client: QueryClient) -> None:
    with pytest.raises(PoisonError, match="no such collection") as caught:
        client.ask(query(UNANSWERABLE), timeout_s=HANG_S)
    assert caught.value.reason == "unknown_collection"


def test_an_answer_that_never_comes_is_given_up_and_says_what_to_start(client: QueryClient) -> None:
    with pytest.raises(TransientError, match=r"^no answer within 0\.5 s: .*`rerank-worker run`"):
        client.ask(query(UNANSWERED), timeout_s=0.5)


def test_an_event_kafka_would_never_take_is_refused(client: QueryClient) -> None:
    huge = QueryEvent(id="huge", text="Why?", metadata={"blob": "x" * 2_000_000})
    with pytest.raises(FatalError, match="can't be sent"):
        client.ask(huge, timeout_s=HANG_S)


def test_the_tail_begins_with_the_oldest_answer_if_asked_and_skips_what_is_none(
    kafka: KafkaSettings, client: QueryClient
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(kafka.answer_topic, b"not an answer")
    producer.flush(HANG_S)
    answer = client.ask(query("last?", "last"), timeout_s=HANG_S)
    with QueryClient(kafka) as late:
        for found in late.tail(from_beginning=True):
            if found.query_id == answer.query_id:
                return


def test_a_missing_topic_is_named_with_the_command_that_creates_it(kafka: KafkaSettings) -> None:
    with pytest.raises(FatalError, match=r"nowhere\. Create them with `rerank-worker topics --create`"):
        QueryClient(kafka.model_copy(update={"answer_topic": "nowhere"}))


def test_no_broker_is_told_within_the_startup_timeout() -> None:
    with pytest.raises(FatalError, match="no Kafka broker answered at 127"):
        QueryClient(KafkaSettings(bootstrap_servers="127.0.0.1:9", startup_timeout_s=0.3))


def test_a_leader_that_moves_is_waited_for() -> None:
    settings = KafkaSettings(startup_timeout_s=HANG_S)
    cluster = MockCluster(worker_topics(settings), partitions=1)
    for _ in range(3):
        cluster.fail_next(LIST_OFFSETS, KafkaError.NOT_LEADER_FOR_PARTITION)
    with QueryClient(settings.model_copy(update={"bootstrap_servers": cluster.bootstrap_servers})):
        pass
