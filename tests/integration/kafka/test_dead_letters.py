"""Dead letters on a real broker: read back, chosen, sent round again."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas import wire
from schemas.events import DeadLetterInfo
from tests.forked_command import run_command
from tests.patience import HANG_S
from worker.errors import FatalError
from worker.kafka.admin.dead_letters import DeadLetter, Wanted, read
from worker.kafka.admin.replay import Plan, plan, replay
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow

NewKafka = Callable[..., KafkaSettings]
HEADERS = [("traceparent", b"00-abc-def-01"), ("x", None), ("x", b"\xff")]
NOT_UTF8 = b"{\xff"


def put(kafka: KafkaSettings, *reasons: str, at: datetime | None = None) -> None:
    producer = Producer(common_config(kafka))
    for number, reason in enumerate(reasons):
        info = DeadLetterInfo(
            error_kind="transient" if reason == "retries_exhausted" else "poison",
            error_class=reason,
            error_message="because [of] this",
            source_topic=kafka.query_topic,
            source_partition=0,
            source_offset=number,
            attempts=2,
        )
        producer.produce(
            kafka.dead_letter_topic,
            key=f"k{number}".encode(),
            value=NOT_UTF8,
            headers=wire.dead_letter_headers(info, HEADERS),
            timestamp=int((at or datetime.now(UTC)).timestamp() * 1000),
        )
    assert producer.flush(HANG_S) == 0


def reasons(letters: list[DeadLetter]) -> list[str]:
    return sorted(letter.info.error_class for letter in letters)


@pytest.fixture
def kafka(kafka_settings: NewKafka) -> KafkaSettings:
    return kafka_settings()


def replayed(kafka: KafkaSettings, count: int) -> list[Message]:
    """The first records of the query topic."""
    consumer = Consumer(common_config(kafka) | {"group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(kafka.query_topic, number, 0) for number in range(kafka.partitions)])
    try:
        return consumer.consume(count, timeout=HANG_S)
    finally:
        consumer.close()


def test_an_empty_topic_has_none(kafka: KafkaSettings) -> None:
    assert list(read(kafka, Wanted())) == []


def test_a_missing_topic_is_named(kafka: KafkaSettings) -> None:
    missing = kafka.model_copy(update={"dead_letter_topic": "nobody-made-this"})
    with pytest.raises(FatalError, match=r"nobody-made-this.*topics --create"):
        list(read(missing, Wanted()))


def test_they_are_chosen_by_reason_kind_time_and_place(kafka: KafkaSettings) -> None:
    now = datetime.now(UTC)
    put(kafka, "invalid_json", "tombstone", at=now - timedelta(hours=2))
    put(kafka, "invalid_json", "retries_exhausted", at=now)
    everything = list(read(kafka, Wanted()))
    assert reasons(everything) == ["invalid_json", "invalid_json", "retries_exhausted", "tombstone"]
    assert reasons(list(read(kafka, Wanted(reason="tombstone")))) == ["tombstone"]
    assert reasons(list(read(kafka, Wanted(kind="transient")))) == ["retries_exhausted"]
    hour_ago = now - timedelta(hours=1)
    assert reasons(list(read(kafka, Wanted(since=hour_ago)))) == ["invalid_json", "retries_exhausted"]
    assert reasons(list(read(kafka, Wanted(until=hour_ago)))) == ["invalid_json", "tombstone"]
    [one] = read(kafka, Wanted(place=everything[0].place))
    assert one == everything[0]


def test_a_record_of_somebody_else_is_passed_over(kafka: KafkaSettings) -> None:
    producer = Producer(common_config(kafka))
    producer.produce(kafka.dead_letter_topic, value=b"no dead letter")
    assert producer.flush(HANG_S) == 0
    put(kafka, "invalid_json")
    assert reasons(list(read(kafka, Wanted()))) == ["invalid_json"]


def test_a_replayed_event_is_what_it_was_and_counts_its_attempts(kafka: KafkaSettings) -> None:
    put(kafka, "retries_exhausted")
    assert replay(kafka, plan(kafka, Wanted())) == 1
    assert plan(kafka, Wanted()).letters == []
    [event] = replayed(kafka, 1)
    assert (event.key(), event.value()) == (b"k0", NOT_UTF8)
    assert event.headers() == [*HEADERS, (wire.REPLAYED_ATTEMPTS, b"2")]
    assert wire.attempts(event.headers() or []) == 2


def test_a_replay_into_a_topic_that_is_gone_is_told(kafka: KafkaSettings) -> None:
    gone = kafka.model_copy(update={"query_topic": "nobody-made-this", "delivery_timeout_s": 1.0})
    put(gone, "retries_exhausted")
    with pytest.raises(FatalError, match="1 of 1 events were not taken; the first by nobody-made-this"):
        replay(gone, Plan(list(read(kafka, Wanted()))))
    assert len(plan(gone, Wanted()).letters) == 1


def dlq(kafka: KafkaSettings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "COLUMNS": "200",
        "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "RERANK_WORKER_KAFKA__QUERY_TOPIC": kafka.query_topic,
        "RERANK_WORKER_KAFKA__ANSWER_TOPIC": kafka.answer_topic,
        "RERANK_WORKER_KAFKA__DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
        "RERANK_WORKER_KAFKA__GROUP_ID": kafka.group_id,
    }
    return run_command("dlq", *arguments, environment=environment)


def test_the_commands_list_show_and_replay(kafka: KafkaSettings) -> None:
    put(kafka, "invalid_json", "retries_exhausted")
    listed = dlq(kafka, "list")
    assert "because [of] this" in listed.stdout
    [line] = dlq(kafka, "list", "--reason", "invalid_json", "--json").stdout.splitlines()
    found = json.loads(line)
    assert (found["error_kind"], found["attempts"], found["key"]) == ("poison", 2, "k0")
    assert "1 more of 2: --limit 2 shows all" in dlq(kafka, "list", "--limit", "1").stderr

    shown = dlq(kafka, "show", found["place"]).stdout
    assert "traceparent: 00-abc-def-01" in shown
    assert r"value: {\xff" in shown
    whole = json.loads(dlq(kafka, "show", found["place"], "--json").stdout)
    assert ["traceparent", "00-abc-def-01"] in whole["headers"]
    assert whole["value"] == r"{\xff"
    nonsense = dlq(kafka, "show", "foo")
    assert (nonsense.returncode, "PARTITION-OFFSET" in nonsense.stderr) == (2, True)
    missing = dlq(kafka, "show", "0-999")
    assert missing.returncode == 1
    assert "there is no dead letter at 0-999" in missing.stderr

    dry = dlq(kafka, "replay", "--kind", "transient", "--dry-run").stdout
    assert "1 events would be sent" in dry
    assert "retries_exhausted" in dry
    unasked = dlq(kafka, "replay", "--kind", "transient")
    assert unasked.returncode == 1
    assert "Send 1 events" in unasked.stderr
    assert "1 events sent" in dlq(kafka, "replay", "--kind", "transient", "--yes").stdout
    assert "0 events sent" in dlq(kafka, "replay", "--kind", "transient", "--yes").stdout
    assert [event.key() for event in replayed(kafka, 1)] == [b"k1"]
    assert len(list(read(kafka, Wanted()))) == 2
