"""Records of any headers, keys, filters and timestamps: each has its own outcome, and the plain one beside them too.

2,000 of them; ``make fuzz`` sends 20,000. Sent as a C producer can, by librdkafka itself.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.events import AnswerEvent
from schemas.replies import REPLY_REFUSED, reply_to
from tests.odd_records import PLAIN, Case, cases
from tests.patience import HANG_S
from tests.raw_producer import RawHeader, RawProducer, raw_producer
from tests.topics import committed
from worker.kafka.config import common_config
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("RERANK_WORKER_TESTS_FUZZ_CASES", "2000"))
AT_ONCE = 20
SAID_BY_THE_STORE = {"invalid_filter"}
"""Of an event within the contract."""


def readable(headers: Sequence[RawHeader]) -> list[tuple[str, bytes | None]] | None:
    """The headers as Python's client hands them out, names ending at a zero byte; None where it can't."""
    try:
        return [(name.split(b"\0")[0].decode(), held) for name, held in headers]
    except UnicodeDecodeError:
        return None


def refusal(value: bytes, headers: list[tuple[str, bytes | None]] | None) -> str | None:
    """The reason for which a record can't be a query; None if it can."""
    if headers is None:
        return "invalid_headers"
    try:
        wire.decode_query(value, headers)
    except wire.WireError as error:
        return error.reason
    return None


@dataclass
class Outcomes:
    """Reads answers and dead letters as they come, in a thread of its own."""

    kafka: KafkaSettings
    answers: dict[str, Message] = field(default_factory=dict)
    letters: dict[tuple[int, int], Message] = field(default_factory=dict)
    seen: int = 0

    def __post_init__(self) -> None:
        self._consumer = Consumer(common_config(self.kafka) | {"group.id": "fuzz", "enable.auto.commit": False})
        both = (self.kafka.answer_topic, self.kafka.dead_letter_topic)
        self._consumer.assign([TopicPartition(topic, n, 0) for topic in both for n in range(self.kafka.partitions)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(100, 0.05):
                assert message.error() is None
                if message.topic() == self.kafka.answer_topic:
                    self.answers[wire.decode_answer(message.value()).query_id] = message
                else:
                    info = wire.dead_letter_info(message.headers() or [])
                    self.letters[info.source_partition, info.source_offset] = message
                self.seen += 1
        self._consumer.close()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(HANG_S)


@dataclass
class Bench:
    """A worker, and what was sent to it so far."""

    kafka: KafkaSettings
    worker: Any
    producer: RawProducer
    outcomes: Outcomes
    sent: "Counter[int]" = field(default_factory=Counter)
    reasons: "Counter[str]" = field(default_factory=Counter)

    def send(self, case: Case) -> tuple[str, int, int]:
        """Return the query's id, partition and offset."""
        number = self.sent.total()
        partition = number % self.kafka.partitions
        query_id, offset = f"q{number}", self.sent[partition]
        self.producer.send(
            self.kafka.query_topic,
            case.value(query_id),
            headers=case.headers,
            key=case.key,
            partition=partition,
            timestamp_ms=case.timestamp_ms,
        )
        self.sent[partition] += 1
        return query_id, partition, offset

    def await_outcomes(self) -> None:
        self.producer.flush()
        deadline_s = time.monotonic() + HANG_S
        while self.outcomes.seen < self.sent.total():
            assert not self.worker.ended, self.worker.describe()
            assert time.monotonic() < deadline_s, self.worker.describe()
            # More often than ``await_condition`` looks: this is waited for hundreds of times.
            time.sleep(0.005)

    def check(self, case: Case, query_id: str, partition: int, offset: int) -> None:
        headers = readable(case.headers)
        reason = refusal(case.value(query_id), headers)
        letter = self.outcomes.letters.get((partition, offset))
        if letter is None:
            answer = self.outcomes.answers[query_id]
            assert reason is None, reason
            assert answer.key() == case.key
            # No topic is allowed, so that whoever names one is told.
            refused = [(REPLY_REFUSED, b"not_allowed")] if reply_to(headers or []) else []
            assert (answer.headers() or []) == [*wire.passthrough_headers(headers or []), *refused]
            self.reasons[self.event(query_id).status] += 1
        else:
            given_reason = wire.dead_letter_info(letter.headers() or []).error_class
            assert given_reason == reason or (reason is None and given_reason in SAID_BY_THE_STORE), given_reason
            assert (letter.key(), letter.value()) == (case.key, case.value(query_id))
            assert (letter.headers() or [])[: len(headers or [])] == (headers or [])
            self.reasons[given_reason] += 1

    def event(self, query_id: str) -> AnswerEvent:
        return wire.decode_answer(self.outcomes.answers[query_id].value())


@pytest.fixture
def bench(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> Iterator[Bench]:
    kafka = kafka_settings()
    # Since Kafka 4.0 a topic takes no timestamp of the future unless it is told to.
    entry = ConfigEntry("message.timestamp.after.max.ms", str(2**63 - 1), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, kafka.query_topic, incremental_configs=[entry])
    admin = AdminClient(common_config(kafka))
    admin.incremental_alter_configs([resource])[resource].result(HANG_S)
    worker = start_worker(kafka, collection, KAFKA__POISON_LIMIT="1", RECALL__PATIENCE_S="0").await_ready()
    outcomes = Outcomes(kafka)
    with raw_producer(kafka.bootstrap_servers) as producer:
        yield Bench(kafka, worker, producer, outcomes)
    outcomes.close()


def test_every_record_has_its_own_outcome_and_the_plain_one_beside_them_its_answer(bench: Bench) -> None:
    @settings(
        max_examples=CASES // AT_ONCE,
        derandomize=True,
        # Each example is asked of a whole worker: what fails is told as it is.
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(cases, min_size=AT_ONCE - 1, max_size=AT_ONCE - 1))
    def fuzz(together: list[Case]) -> None:
        sent = [(case, *bench.send(case)) for case in [*together, PLAIN]]
        bench.await_outcomes()
        for one in sent:
            bench.check(*one)
        assert bench.event(sent[-1][1]).status == "ok"

    fuzz()
    total = bench.sent.total()
    assert total >= CASES
    assert await_condition(lambda: committed(bench.kafka) == total, timeout_s=HANG_S)
    assert bench.outcomes.seen == total
    assert bench.worker.stop() == 0
    print(f"{total:,} records: {dict(bench.reasons)}")
    assert {"ok", "expired", "invalid_headers", "invalid_filter", "invalid_schema"} <= bench.reasons.keys()
