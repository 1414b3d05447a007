"""Reading dead letters back. Blocking, for the command line; ``replay`` sends their events round again.

Nothing is ever deleted: the topic's own retention does that.
"""

import heapq
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import wire
from schemas.events import DeadLetterInfo
from worker.errors import FatalError
from worker.kafka.admin.topics import describe, watermarks
from worker.kafka.config import common_config
from worker.kafka.consume.records import Record, from_message
from worker.settings import KafkaSettings

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of the dead-letter topic with what its headers say."""

    record: Record
    info: DeadLetterInfo
    at: datetime
    """When it was put there."""
    query_id: str | None = None
    """The event's own id, as far as its bytes tell one."""

    @property
    def place(self) -> str:
        """Where it stands in the dead-letter topic: what `dlq show` takes."""
        return f"{self.record.position.partition}-{self.record.position.offset}"

    def without_event(self) -> "DeadLetter":
        """Return it without the event's bytes, for lists that may be long."""
        return replace(self, record=replace(self.record, value=None))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters; what is None does not matter."""

    reason: str | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    place: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is among these."""
        return (
            self.reason in {None, letter.info.error_class}
            and self.kind in {None, letter.info.error_kind}
            and self.place in {None, letter.place}
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


def read(kafka: KafkaSettings, wanted: Wanted) -> Iterator[DeadLetter]:
    """Yield the dead letters there are now, oldest first within a partition; records that are none are passed over.

    FatalError if the topic is missing, no broker answers within ``startup_timeout_s``, or reading breaks off.
    """
    consumer = Consumer(
        common_config(kafka)
        | {
            # Obligatory, though nothing is joined or committed: assign() instead of subscribe().
            "group.id": f"rerank-worker-dlq-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            # Transactions end in markers that are never delivered: only this tells that a partition is read up.
            "enable.partition.eof": True,
        }
    )
    try:
        # What replayed events leave behind while this goes on is not read: it could go on for ever.
        ends = _assign(consumer, kafka, wanted.since)
        deadline_s = time.monotonic() + kafka.startup_timeout_s
        while ends:
            message = consumer.poll(POLL_S)
            if message is None:
                if time.monotonic() > deadline_s:
                    raise FatalError(f"{kafka.dead_letter_topic} could not be read to its end: no broker answers")
                continue
            deadline_s = time.monotonic() + kafka.startup_timeout_s
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the only spelling
                raise FatalError(f"reading {kafka.dead_letter_topic} failed: {error.str()}")
            if error is not None or _offset(message) >= ends.get(message.partition(), 0):
                ends.pop(message.partition(), None)
            elif (letter := _letter(message)) is not None and wanted.takes(letter):
                yield letter
    except KafkaException as error:
        raise FatalError(f"reading {kafka.dead_letter_topic} failed: {error.args[0].str()}") from error
    finally:
        consumer.close()


def oldest(kafka: KafkaSettings, wanted: Wanted, limit: int) -> tuple[list[DeadLetter], int]:
    """Return the first ``limit`` dead letters by time, then place, and how many there are in all. Raises as ``read``.

    Memory holds ``limit`` of them, however many the topic has.
    """
    count = 0

    def counted() -> Iterator[DeadLetter]:
        nonlocal count
        for letter in read(kafka, wanted):
            count += 1
            yield letter

    return heapq.nsmallest(limit, counted(), key=_by_time), count


def partitions_of(kafka: KafkaSettings) -> int:
    """Return how many partitions the dead-letter topic has; FatalError if it is missing or no broker answers."""
    topic = kafka.dead_letter_topic
    count = next(each.partitions for each in describe(kafka) if each.name == topic)
    if not count:
        raise FatalError(f"there is no topic {topic}; `rerank-worker topics --create` makes it")
    return count


def _by_time(letter: DeadLetter) -> tuple[datetime, int, int]:
    return letter.at, letter.record.position.partition, letter.record.position.offset


def _assign(consumer: Consumer, kafka: KafkaSettings, since: datetime | None) -> dict[int | None, int]:
    """Begin reading at a time, or at the oldest; return where each partition that holds anything ends."""
    topic = kafka.dead_letter_topic
    count = partitions_of(kafka)
    partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(count)]
    if since is not None:
        times = [TopicPartition(topic, number, int(since.timestamp() * 1000)) for number in range(count)]
        partitions = consumer.offsets_for_times(times, timeout=kafka.startup_timeout_s)
    ends: dict[int | None, int] = {}
    for partition in partitions:
        low, high = watermarks(consumer, kafka, partition)
        if high > low:
            ends[partition.partition] = high
    consumer.assign(partitions)
    return ends


def _offset(message: Message) -> int:
    return message.offset() or 0


def _letter(message: Message) -> DeadLetter | None:
    record = from_message(message)
    try:
        info = wire.dead_letter_info(record.headers)
    except wire.WireError:
        # Somebody else's record on the topic.
        return None
    return DeadLetter(record, info, datetime.fromtimestamp(record.timestamp_s or 0.0, UTC), _query_id(record.value))


def _query_id(value: bytes | None) -> str | None:
    try:
        event = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    found = event.get("id") if isinstance(event, dict) else None
    return found if isinstance(found, str) else None
