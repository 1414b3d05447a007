"""What is asked while the faults happen, and the reader that tells the oracle of everything that comes of it."""

import random
import threading
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import wire
from schemas.events import QueryEvent
from tests.faults.oracle import SequenceOracle, Verdict
from tests.patience import HANG_S
from worker.local.process import await_condition
from worker.settings import KafkaSettings

KEYS = 50
POISON_SHARE = 0.04
GENERATE_SHARE = 0.1
DEADLINE_SHARE = 0.01
TICK_S = 0.05
# New partitions are noticed after this; 5 minutes by default.
METADATA_AGE, METADATA_AGE_MS = "topic.metadata.refresh.interval.ms", 2_000
REQUEST_TIMEOUT_S = 20.0


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Return how those who watch reach the brokers. Brokers that are down are no news to them."""
    return {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, METADATA_AGE: METADATA_AGE_MS}


class Traffic:
    """Produces query events at a steady rate, in a thread of its own, until there are enough."""

    def __init__(self, kafka: KafkaSettings, *, seed: int, per_second: float) -> None:
        self._topic = kafka.query_topic
        self._producer = Producer(client_config(kafka) | {"enable.idempotence": True, "linger.ms": 5})
        self._random = random.Random(seed)
        self._per_second = per_second
        self._wanted = 0
        self.produced = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def ask(self, events: int) -> None:
        """Ask this many more."""
        self._wanted += events

    def await_asked(self, timeout_s: float) -> None:
        """Return when the broker has everything; AssertionError if it has not in time."""
        deadline_s = time.monotonic() + timeout_s
        complete = await_condition(lambda: self.produced >= self._wanted, timeout_s=timeout_s)
        assert complete, f"{self.produced} of {self._wanted} events were produced"
        assert self._producer.flush(max(1.0, deadline_s - time.monotonic())) == 0

    def close(self) -> None:
        """Stop, and join the thread."""
        self._stopping.set()
        self._thread.join(HANG_S)
        self._producer.flush(HANG_S)

    def _run(self) -> None:
        owed = 0.0
        while not self._stopping.wait(TICK_S):
            owed = min(owed + self._per_second * TICK_S, self._wanted - self.produced)
            while owed >= 1:
                self._produce_one()
                owed -= 1
            self._producer.poll(0)

    def _produce_one(self) -> None:
        number = self.produced
        draw = self._random.random()
        event = QueryEvent(
            id=f"q{number}",
            text="capital of france",
            top_k=1,
            generate=draw < GENERATE_SHARE,
            deadline_ms=100 if draw > 1 - DEADLINE_SHARE else None,
        )
        is_poison = GENERATE_SHARE <= draw < GENERATE_SHARE + POISON_SHARE
        value = b"poison" if is_poison else wire.encode_query(event)
        try:
            self._producer.produce(self._topic, key=b"%d" % self._random.randrange(KEYS), value=value)
        except BufferError:
            self._producer.poll(1)
            return
        self.produced += 1


class Observer:
    """Reads the three topics and the group's offsets, in a thread of its own, and tells the oracle.

    Sees what a ``read_committed`` reader sees. Each round looks up the committed offsets first and reads all that
    stands in the topics after: an outcome acknowledged before its offset was committed must be among it.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._oracle = SequenceOracle()
        self._telling = threading.Lock()
        self._rounds = 0
        self._kafka = kafka
        self._admin = AdminClient(client_config(kafka))
        # Of the group by name only: it never subscribes.
        self._group = Consumer(
            client_config(kafka) | {"group.id": kafka.group_id, "isolation.level": "read_uncommitted"}
        )
        self._consumer = Consumer(
            client_config(kafka)
            | {
                "group.id": f"observer-of-{kafka.group_id}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        self._read_to: dict[tuple[str, int], int] = {}
        self._failed: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def await_outcomes(self, events: int, timeout_s: float) -> Verdict:
        """Return the verdict once this many events were seen, have their outcome and are committed, or time is up."""
        deadline_s = time.monotonic() + timeout_s
        await_condition(lambda: self._failed is not None or self._settled(events), timeout_s=timeout_s)
        if self._failed is not None:
            raise self._failed
        # One whole round more: what is repeated or committed late is seen too.
        seen = self._rounds
        await_condition(lambda: self._rounds >= seen + 2, timeout_s=deadline_s - time.monotonic())
        with self._telling:
            return self._oracle.verdict()

    def close(self) -> None:
        """Stop, and join the thread."""
        self._stopping.set()
        self._thread.join(HANG_S)
        self._consumer.close()
        self._group.close()

    @property
    def progress(self) -> tuple[int, int]:
        """Queries seen so far, and those of them without an outcome."""
        with self._telling:
            return self._oracle.seen, self._oracle.pending

    def _settled(self, events: int) -> bool:
        seen, pending = self.progress
        return seen >= events and pending == 0

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._round()
                except KafkaException:
                    # A broker is down, or moves: the next round sees what this one did not.
                    self._stopping.wait(0.2)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the verdict
            self._failed = error

    def _round(self) -> None:
        partitions = self._partitions()
        committed = self._committed(partitions)
        if not self._read_until(self._ends(partitions)):
            return
        with self._telling:
            for partition, offset in committed.items():
                self._oracle.committed(partition, offset)
        self._rounds += 1

    def _partitions(self) -> list[tuple[str, int]]:
        """Every partition there is now; new ones are read from their beginning."""
        topics = (self._kafka.query_topic, self._kafka.answer_topic, self._kafka.dead_letter_topic)
        known = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        found = [(topic, number) for topic in topics for number in known[topic].partitions]
        if new := [each for each in found if each not in self._read_to]:
            self._consumer.incremental_assign([TopicPartition(*each, 0) for each in new])
            self._read_to |= dict.fromkeys(new, 0)
        return found

    def _committed(self, partitions: list[tuple[str, int]]) -> dict[int, int]:
        wanted = [TopicPartition(*each) for each in partitions if each[0] == self._kafka.query_topic]
        found = self._group.committed(wanted, timeout=REQUEST_TIMEOUT_S)
        return {each.partition: each.offset for each in found if each.error is None and each.offset > 0}

    def _ends(self, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        # The high watermarks, with what is still in transactions: markers of a transaction reach the partitions one
        # by one, so the offsets may show before the answers do. Asked one by one: the admin client's list_offsets
        # breaks an assertion of librdkafka 2.16 when leaders move meanwhile, and ends the process.
        return {
            each: self._group.get_watermark_offsets(TopicPartition(*each), timeout=REQUEST_TIMEOUT_S)[1]
            for each in partitions
        }

    def _read_until(self, ends: dict[tuple[str, int], int]) -> bool:
        deadline_s = time.monotonic() + HANG_S
        while any(self._read_to[each] < end for each, end in ends.items()):
            if self._stopping.is_set() or time.monotonic() > deadline_s:
                return False
            messages = self._consumer.consume(1_000, timeout=0.1)
            with self._telling:
                for message in messages:
                    self._tell(message)
        return True

    def _tell(self, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # Markers at the end are passed too: only this tells.
                self._read_to[topic, partition] = max(self._read_to[topic, partition], offset)
            return
        self._read_to[topic, partition] = max(self._read_to[topic, partition], offset + 1)
        value = message.value() or b""
        if topic == self._kafka.query_topic:
            query_id = None if value == b"poison" else wire.decode_query(value).id
            self._oracle.asked(partition, offset, query_id, message.key())
        elif topic == self._kafka.answer_topic:
            answer = wire.decode_answer(value)
            self._oracle.answered(answer.query_id, answer.status.value)
        else:
            letter = wire.dead_letter_info(message.headers() or [])
            self._oracle.dead_lettered(letter.source_partition, letter.source_offset, letter.error_class)
