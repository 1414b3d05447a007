"""The worker on real Kafka, a real Chroma server and real models: nothing lost, everything named."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from schemas import wire
from schemas.events import AnswerEvent, AnswerStatus, QueryEvent
from tests.forked_command import run_command
from tests.integration.worker.conftest import ingest_texts
from tests.patience import HANG_S
from tests.topics import committed, held
from worker.client import QueryClient
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

NewKafka = Callable[..., KafkaSettings]
QUESTION = "What permissions does Debezium need on MySQL?"
BACKLOG = 4_000


def queries(count: int, **changes: object) -> list[QueryEvent]:
    return [QueryEvent.model_validate({"id": f"q{n}", "text": f"{QUESTION} ({n})", **changes}) for n in range(count)]


def produce(kafka: KafkaSettings, values: list[bytes | None], headers: wire.Headers = ()) -> None:
    producer = Producer(common_config(kafka))
    for number, value in enumerate(values):
        producer.produce(kafka.query_topic, key=f"k{number}".encode(), value=value, headers=list(headers))
        producer.poll(0)
    assert producer.flush(HANG_S) == 0


def read_all(kafka: KafkaSettings, topic: str, count: int) -> list[Message]:
    """Everything a topic holds once it holds ``count`` records."""
    found: list[Message] = []

    def enough() -> bool:
        found[:] = held(kafka, topic)
        return len(found) >= count

    assert await_condition(enough, timeout_s=HANG_S)
    return found


def answers_of(kafka: KafkaSettings, count: int) -> list[AnswerEvent]:
    return [wire.decode_answer(message.value()) for message in read_all(kafka, kafka.answer_topic, count)]


def test_a_question_comes_back_with_reranked_contexts_and_an_answer(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    worker = start_worker(kafka, collection).await_ready()
    event = QueryEvent(id="q", text=QUESTION, include_candidates=True, top_n=2, metadata={"tenant": 7})
    with QueryClient(kafka) as client:
        answer = client.ask(event, timeout_s=HANG_S)
    assert answer.status is AnswerStatus.OK
    assert answer.contexts[0].document_id == "permissions"
    assert len(answer.contexts) == 2
    assert [candidate.recall_rank for candidate in answer.candidates or []] == [1, 2, 3]
    assert answer.answer is not None
    assert answer.answer.model.startswith("extractive:")
    assert answer.answer.citations[0] == "permissions"
    assert answer.metadata == {"tenant": 7}
    assert answer.models.cross_encoder == CROSS_ENCODER_NAME
    assert answer.models.prior_weight == 0.0
    stages = answer.timings_ms
    assert stages.total >= stages.recall + stages.rerank + stages.answer
    assert worker.stop() == 0
    assert committed(kafka) == 1


def test_what_can_not_be_decoded_is_dead_lettered_untouched(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    values: list[bytes | None] = [b"{", b"\xff\xfe", None, b'{"id": "a"}', b'{"id": "a", "text": "  "}', b"[1]"]
    # As of events that were replayed twice.
    headers = [
        ("traceparent", b"00-abc-def-01"),
        ("x", b"1"),
        ("x", None),
        ("attempts", b"7"),
        (wire.REPLAYED_ATTEMPTS, b"2"),
    ]
    produce(kafka, values, headers)
    worker = start_worker(kafka, collection).await_ready()

    letters = read_all(kafka, kafka.dead_letter_topic, len(values))
    assert sorted(repr(letter.value()) for letter in letters) == sorted(map(repr, values))
    reasons = {wire.dead_letter_info(letter.headers() or []).error_class for letter in letters}
    assert reasons == {"invalid_json", "invalid_utf8", "tombstone", "invalid_schema"}
    for letter in letters:
        assert (letter.headers() or [])[: len(headers)] == headers
        assert wire.dead_letter_info(letter.headers() or []).attempts == 3
        assert letter.key() is not None
        assert wire.dead_letter_info(letter.headers() or []).source_topic == kafka.query_topic
    assert worker.stop() == 0
    assert committed(kafka) == len(values)


def test_a_query_the_store_refuses_is_poison_and_its_neighbours_are_not(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    bad = [
        QueryEvent(id="no-collection", text=QUESTION, collection="not-there"),
        QueryEvent(id="bad-filter", text=QUESTION, where={"$nonsense": 1}),
    ]
    late = QueryEvent(id="late", text=QUESTION, deadline_ms=1)
    produce(kafka, [wire.encode_query(event) for event in [*bad, late, *queries(3)]])
    worker = start_worker(kafka, collection).await_ready()

    answers = {answer.query_id: answer.status for answer in answers_of(kafka, 4)}
    assert answers == {"late": AnswerStatus.EXPIRED, **{f"q{n}": AnswerStatus.OK for n in range(3)}}
    letters = read_all(kafka, kafka.dead_letter_topic, 2)
    reasons = {wire.dead_letter_info(letter.headers() or []).error_class for letter in letters}
    assert reasons == {"unknown_collection", "invalid_filter"}
    assert worker.metric("rerank_worker_dead_letters_total") == 2
    assert worker.stop() == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_two_workers_share_the_partitions_and_one_finishes_what_the_other_leaves(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable, protocol: str
) -> None:
    kafka = kafka_settings()
    both = [start_worker(kafka, collection, KAFKA__GROUP_PROTOCOL=protocol) for _ in range(2)]
    for worker in both:
        worker.await_ready()
    partitions = "rerank_worker_assigned_partitions"
    assert await_condition(lambda: [w.metric(partitions) for w in both] == [2, 2], timeout_s=HANG_S)

    produce(kafka, [wire.encode_query(event) for event in queries(300, top_k=1, generate=False)])
    ended = "rerank_worker_events_total"
    assert await_condition(lambda: min(w.metric(ended) for w in both) > 5, timeout_s=HANG_S)
    both[0].process.send_signal(signal.SIGKILL)

    wanted = {f"q{n}" for n in range(300)}
    answered: set[str] = set()

    def all_answered() -> bool:
        answered.update(answer.query_id for answer in answers_of(kafka, 0))
        return answered >= wanted

    assert await_condition(all_answered, timeout_s=HANG_S)
    assert answered == wanted
    assert both[1].stop() == 0
    assert committed(kafka) == 300


def test_sigterm_in_the_middle_loses_nothing(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    produce(kafka, [wire.encode_query(event) for event in queries(400, generate=False)])
    first = start_worker(kafka, collection).await_ready()
    assert await_condition(lambda: first.metric("rerank_worker_events_total") > 20, timeout_s=HANG_S)
    assert first.stop() == 0

    done = [answer.query_id for answer in answers_of(kafka, 0)]
    assert 20 < len(done) < 400
    # What it had begun it has finished, answered and committed; the rest it has left alone.
    assert len(done) == len(set(done)) == committed(kafka)

    second = start_worker(kafka, collection).await_ready()
    answered = [answer.query_id for answer in answers_of(kafka, 400)]
    assert sorted(answered) == sorted(event.id for event in queries(400))
    assert second.stop() == 0
    assert committed(kafka) == 400


def test_a_backlog_of_two_hundred_megabytes_is_worked_off_in_bounded_memory(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    events = [
        QueryEvent(id=f"q{n}", text="capital of france", top_k=1, generate=False, metadata={"padding": "x" * 50_000})
        for n in range(BACKLOG)
    ]
    produce(kafka, [wire.encode_query(event) for event in events])
    worker = start_worker(kafka, collection, KAFKA__MAX_IN_FLIGHT="128").await_ready()
    memory, in_flight = "process_resident_memory_bytes", "rerank_worker_in_flight_queries"
    at_start, most_in_flight, most_memory = worker.metric(memory), 0.0, 0.0

    def all_done() -> bool:
        nonlocal most_in_flight, most_memory
        done, in_work, resident = worker.metrics("rerank_worker_events_total", in_flight, memory)
        most_in_flight, most_memory = max(most_in_flight, in_work), max(most_memory, resident)
        return done >= BACKLOG

    assert await_condition(all_done, timeout_s=HANG_S)
    assert 0 < most_in_flight <= 128 + kafka.poll_batch
    # A worker that hoarded the backlog would need its 200 MB as they came, and once more as objects.
    assert most_memory - at_start < 300e6
    assert worker.stop() == 0
    assert committed(kafka) == BACKLOG


def test_headers_and_key_of_a_query_come_back_on_its_answer(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    passed = [("traceparent", b"00-abc-def-01"), ("correlation-id", b"c1"), ("kafka_correlationId", b"\x00\x01")]
    produce(kafka, [wire.encode_query(queries(1)[0])], [("private", b"stays"), *passed])
    worker = start_worker(kafka, collection).await_ready()
    [message] = read_all(kafka, kafka.answer_topic, 1)
    assert message.key() == b"k0"
    assert message.headers() == passed
    assert worker.stop() == 0


def run_to_end(environment: dict[str, str]) -> tuple[int, str]:
    settings = {"MODELS": "offline", "TELEMETRY__PORT": "0", **environment}
    ended = run_command(
        "run", environment={**os.environ, **{f"RERANK_WORKER_{name}": value for name, value in settings.items()}}
    )
    return ended.returncode, ended.stderr


def reason(log: str) -> str:
    [line] = [json.loads(line) for line in log.splitlines() if "the worker ends" in line]
    return str(line["reason"])


def test_no_broker_at_start_is_one_clear_fatal_line() -> None:
    code, log = run_to_end({"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA__STARTUP_TIMEOUT_S": "1"})
    assert code == 1
    assert "no Kafka broker answered at 127.0.0.1:9" in reason(log)


def test_a_missing_topic_at_start_names_the_command_that_creates_it(kafka_settings: NewKafka) -> None:
    kafka = kafka_settings()
    code, log = run_to_end(
        {"KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KAFKA__QUERY_TOPIC": "nowhere.to.be.found"}
    )
    assert code == 1
    assert "rerank-worker topics --create" in reason(log)


def test_no_vector_store_at_start_is_one_clear_fatal_line(kafka_settings: NewKafka) -> None:
    kafka = kafka_settings()
    code, log = run_to_end(
        {
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "KAFKA__QUERY_TOPIC": kafka.query_topic,
            "KAFKA__ANSWER_TOPIC": kafka.answer_topic,
            "KAFKA__DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
            "RECALL__PORT": "9",
            "RECALL__TIMEOUT_S": "2",
        }
    )
    assert code == 1
    assert "RERANK_WORKER_RECALL__HOST" in reason(log)


def test_an_llm_and_a_leg_of_recall_that_are_away_degrade_the_answer_and_it_says_so(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable, tmp_path: Path
) -> None:
    kafka, lexical = kafka_settings(), tmp_path / "lexical"
    away = {"ANSWER__BASE_URL": "http://127.0.0.1:9/v1", "ANSWER__MODEL": "gone", "ANSWER__TIMEOUT_S": "5"}
    worker = start_worker(kafka, collection, RECALL__LEXICAL_PATH=str(lexical), **away).await_ready()
    with QueryClient(kafka) as client:
        first = client.ask(QueryEvent(id="first", text=QUESTION), timeout_s=HANG_S)
        assert [each.code for each in first.degradations] == ["lexical_missing", "llm_unavailable"]
        assert {*map(str, first.contexts[0].legs or [])} == {"dense"}
        # Ingested again, the collection has its file, and the worker finds it there.
        ingest_texts(collection.model_copy(update={"lexical_path": lexical}))
        answer = client.ask(QueryEvent(id="q", text=QUESTION), timeout_s=HANG_S)
    assert answer.contexts[0].legs == ["dense", "lexical"]
    assert answer.status is AnswerStatus.DEGRADED
    assert answer.answer is None
    assert answer.contexts[0].document_id == "permissions"
    [degradation] = answer.degradations
    assert degradation.code == "llm_unavailable"
    assert "127.0.0.1" not in degradation.reason, "what the endpoint is called and said is in the log"
    assert worker.stop() == 0


def test_a_broken_producer_stops_the_worker_before_the_topic_is_drained(
    kafka_settings: NewKafka, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    produce(kafka, [b"not an event"] * 5_000)
    worker = start_worker(kafka, collection, KAFKA__POISON_WINDOW="50", KAFKA__POLL_BATCH="16")
    assert worker.process.wait(HANG_S) == 1
    [line] = [json.loads(line) for line in worker.log_path.read_text().splitlines() if '"the worker ends"' in line]
    assert "of the last 50 events were poison" in line["reason"]
    letters = held(kafka, kafka.dead_letter_topic)
    assert len(letters) < 1_000
    assert committed(kafka) <= len(letters)
