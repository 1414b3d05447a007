"""Reading dead letters back. Blocking, for the command line; ``replay`` sends their events round again.

Nothing is ever deleted: the topic's own retention does that.
"""

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from confluent_kafka import Message

from schemas import wire
from schemas.events import DeadLetterInfo
from worker.kafka.admin.whole_topic import read_whole
from worker.kafka.consume.records import Record, from_message
from worker.settings import KafkaSettings


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

    Raises as ``read_whole``.
    """
    for message in read_whole(kafka, kafka.dead_letter_topic, since=wanted.since):
        if (letter := _letter(message)) is not None and wanted.takes(letter):
            yield letter


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


def _by_time(letter: DeadLetter) -> tuple[datetime, int, int]:
    return letter.at, letter.record.position.partition, letter.record.position.offset


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
