"""One consumed Kafka record, as the rest of the worker sees it."""

from dataclasses import dataclass
from typing import cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

LAST_TIMESTAMP_MS = 253_402_300_799_999
"""The end of the year 9999, and of Python's and most others' dates."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands: topic, partition, offset and the leader epoch it was read under, as one value."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int | None = None

    @property
    def topic_partition(self) -> tuple[str, int]:
        """The partition, as a dictionary key."""
        return (self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class Record:
    """A record's bytes, untouched: key, value and headers are exactly what the producer sent."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None
    """Kafka timestamp, Unix milliseconds; None where the topic carries none."""

    @property
    def timestamp_s(self) -> float | None:
        """Kafka timestamp, Unix seconds; None also where the producer sent a number that is no date."""
        if self.timestamp_ms is None or not 0 <= self.timestamp_ms <= LAST_TIMESTAMP_MS:
            return None
        return self.timestamp_ms / 1000


def from_message(message: Message) -> Record:
    """Copy a message without an error out of librdkafka."""
    kind, timestamp_ms = message.timestamp()
    return Record(
        position=Position(
            topic=message.topic() or "",
            partition=_known(message.partition()),
            offset=_known(message.offset()),
            leader_epoch=message.leader_epoch(),
        ),
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        # The stub also allows what produce() takes; a consumed message always has a list of (str, bytes | None).
        headers=tuple(cast("list[tuple[str, bytes | None]]", message.headers() or [])),
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
    )


def _known(number: int | None) -> int:
    if number is None:
        raise ValueError("a consumed record has a partition and an offset")
    return number


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
