"""Reading dead letters back, and sending their events round again. Blocking, for the command line.

Nothing is ever deleted: the topic's own retention does that.
"""

import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas import wire
from schemas.events import DeadLetterInfo
from worker.errors import FatalError
from worker.kafka.admin.topics import describe
from worker.kafka.codes import LEADER_MOVING
from worker.kafka.config import common_config, producer_config
from worker.kafka.consume.records import Record, from_message
from worker.resilience.retry import RetryPolicy
from worker.settings import KafkaSettings

POLL_S = 0.5
RETRY_S = 0.2
# Keeps the producer's queue, and with it memory, small however many are sent.
FLUSH_EVERY = 1_000
# Until the client has told the last record's fate.
REPORT_SLACK_S = 10.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of the dead-letter topic with what its headers say."""

    record: Record
    info: DeadLetterInfo
    at: datetime
    """When it was put there."""

    @property
    def place(self) -> str:
        """Where it stands in the dead-letter topic: what `dlq show` takes."""
        return f"{self.record.position.partition}-{self.record.position.offset}"


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


def replay(kafka: KafkaSettings, letters: Iterable[DeadLetter]) -> int:
    """Send each event to the topic it came from, with its key, bytes and headers and its attempts so far; count them.

    Returns when the broker has acknowledged all. FatalError if it does not take one: those before it have been sent,
    and sending them again gives a second answer with the same ``query_id``.
    """
    producer = Producer(producer_config(kafka))
    refused: list[str] = []
    sent = 0

    def report(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(f"{message.topic()}: {error.str()}")

    def delivered() -> None:
        # Longer than any record may take: what was not taken is told by name.
        if producer.flush(kafka.delivery_timeout_s + REPORT_SLACK_S):
            refused.append("nobody: no broker answered in time")
        if refused:
            raise FatalError(f"{len(refused)} of {sent} events were not taken; the first by {refused[0]}")

    for letter in letters:
        sent += 1
        try:
            producer.produce(
                letter.info.source_topic,
                key=letter.record.key,
                value=letter.record.value,
                headers=list[tuple[str, str | bytes | None]](wire.replay_headers(letter.record.headers)),
                on_delivery=report,
            )
        except KafkaException as error:
            refused.append(f"{letter.info.source_topic}: {error.args[0].str()}")
            delivered()
        if sent % FLUSH_EVERY == 0:
            delivered()
    delivered()
    return sent


def _assign(consumer: Consumer, kafka: KafkaSettings, since: datetime | None) -> dict[int | None, int]:
    """Begin reading at a time, or at the oldest; return where each partition that holds anything ends."""
    topic = kafka.dead_letter_topic
    count = next(each.partitions for each in describe(kafka) if each.name == topic)
    if not count:
        raise FatalError(f"there is no topic {topic}; `rerank-worker topics --create` makes it")
    partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(count)]
    if since is not None:
        times = [TopicPartition(topic, number, int(since.timestamp() * 1000)) for number in range(count)]
        partitions = consumer.offsets_for_times(times, timeout=kafka.startup_timeout_s)
    ends: dict[int | None, int] = {}
    for partition in partitions:
        low, high = _watermarks(consumer, kafka, partition)
        if high > low:
            ends[partition.partition] = high
    consumer.assign(partitions)
    return ends


def _watermarks(consumer: Consumer, kafka: KafkaSettings, partition: TopicPartition) -> tuple[int, int]:
    deadline_s = time.monotonic() + kafka.startup_timeout_s
    return RetryPolicy(RETRY_S, RETRY_S, retries=_leader_moves).run_blocking(
        lambda: consumer.get_watermark_offsets(partition, timeout=kafka.startup_timeout_s),
        left_s=lambda: deadline_s - time.monotonic(),
    )


def _leader_moves(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in LEADER_MOVING


def _offset(message: Message) -> int:
    return message.offset() or 0


def _letter(message: Message) -> DeadLetter | None:
    record = from_message(message)
    try:
        info = wire.dead_letter_info(record.headers)
    except wire.WireError:
        # Somebody else's record on the topic.
        return None
    return DeadLetter(record, info, datetime.fromtimestamp(record.timestamp_s or 0.0, UTC))
