"""Asking through Kafka, on librdkafka's own broker with a stand-in for the worker that answers."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from schemas import wire
from schemas.contexts import ContextsEvent
from schemas.events import QueryEvent
from tests.fakes.worker import CONTEXT, HELD, UNANSWERABLE, UNANSWERED, FakeWorker
from tests.patience import HANG_S
from worker.client import QueryClient
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.admin.topics import worker_topics
from worker.local.mock_kafka import MockCluster, mock_kafka
from worker.settings import KafkaSettings

REPLIES = "replies"

LIST_OFFSETS = 2
"""The request's number in Kafka's protocol."""


def query(text: str, query_id: str = "q") -> QueryEvent:
    return QueryEvent(id=query_id, text=text)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(startup_timeout_s=HANG_S, contexts_topic="contexts")
    with mock_kafka(tmp_path_factory.mktemp("mock"), (*worker_topics(settings), REPLIES), partitions=2) as address:
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


def test_a_query_is_keyed_by_its_id_and_carries_what_its_answer_is_told_by(
    client: QueryClient, worker: FakeWorker
) -> None:
    client.ask(query("keyed?", "by-id"), timeout_s=HANG_S)
    [headers] = [headers for key, headers in worker.seen if key == b"by-id"]
    assert wire.header(headers, wire.CORRELATION_ID)


def test_a_key_and_headers_go_along(client: QueryClient, worker: FakeWorker) -> None:
    sent = [("tenant", b"a"), ("tenant", b"b"), (wire.TRACEPARENT, b"00-trace")]
    client.ask(query("traced?"), timeout_s=HANG_S, key="user-7", headers=sent)
    [headers] = [headers for key, headers in worker.seen if key == b"user-7"]
    assert [header for header in headers if header[0] != wire.CORRELATION_ID] == sent


def test_a_dead_lettered_query_is_told_at_once_with_its_reason(client: QueryClient) -> None:
    with pytest.raises(PoisonError, match="no such collection") as caught:
        client.ask(query(UNANSWERABLE), timeout_s=HANG_S)
    assert caught.value.reason == "unknown_collection"


def test_an_answer_that_never_comes_is_given_up_and_says_what_to_start(client: QueryClient) -> None:
    with pytest.raises(TransientError, match=r"^no answer within 0\.5 s: .*`rerank-worker run`"):
        client.ask(query(UNANSWERED), timeout_s=0.5)


def test_a_client_with_a_reply_topic_reads_answers_and_failures_there(kafka: KafkaSettings, worker: FakeWorker) -> None:
    with QueryClient(kafka, reply_topic=REPLIES) as client:
        assert client.ask(query("Why?", "replied"), timeout_s=HANG_S).query_id == "replied"
        with pytest.raises(PoisonError, match="no such collection") as caught:
            client.ask(query(UNANSWERABLE), timeout_s=HANG_S)
        assert caught.value.reason == "unknown_collection"
        with pytest.raises(TransientError, match=r"must have replies among its kafka\.reply_topics"):
            client.ask(query(UNANSWERED), timeout_s=0.5)


@pytest.mark.parametrize("reply_topic", [None, REPLIES])
def test_contexts_are_seen_before_the_answer_by_who_wants_to(
    kafka: KafkaSettings, worker: FakeWorker, reply_topic: str | None
) -> None:
    worker.may_answer.clear()
    seen: list[ContextsEvent] = []

    def see(contexts: ContextsEvent) -> None:
        seen.append(contexts)
        worker.may_answer.set()

    with QueryClient(kafka, reply_topic=reply_topic, on_contexts=see) as client:
        answer = client.ask(query(HELD, "held"), timeout_s=HANG_S)
    assert [(each.query_id, each.contexts) for each in seen] == [(answer.query_id, [CONTEXT])]


def test_who_does_not_want_contexts_gets_the_answer_all_the_same(client: QueryClient, worker: FakeWorker) -> None:
    worker.may_answer.set()
    assert client.ask(query(HELD, "unwatched"), timeout_s=HANG_S).query_id == "unwatched"


def test_a_reply_topic_that_is_missing_is_told_before_anything_is_asked(kafka: KafkaSettings) -> None:
    with pytest.raises(FatalError, match="no Kafka topic nowhere for the reply"):
        QueryClient(kafka, reply_topic="nowhere")


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
