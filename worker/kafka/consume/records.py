"""What the consumer's thread hands over to the loop: records, and changes of what is assigned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from worker.errors import FatalError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position

LAST_TIMESTAMP_MS = 253_402_300_799_999
"""The end of the year 9999, and of Python's and most others' dates."""

# Of a revoke's time, what its queries get; the rest is for their transaction or commit.
FINISH_SHARE = 0.8
TRANSACTION_SHARE = 0.1


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


class SourceListener(Protocol):
    """What the source tells the loop; every method is called on the loop's thread, in the order things happened."""

    def on_records(self, records: Sequence[Record]) -> None:
        """Take records of assigned partitions, in offset order per partition."""

    def on_assigned(self, partitions: Sequence[Partition]) -> None:
        """Begin with these partitions; their records come after this call. None: a member with nothing to do."""

    async def on_revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, CompletedPrefix]:
        """Finish what can be finished within ``FINISH_SHARE`` of ``revoke_timeout_s``; return the prefixes to commit.

        The source commits them within the rest; when all of it has passed, it gives them up whatever has happened.
        """
        ...

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        """Drop these partitions at once: they may have another owner already."""

    def on_commit(self, outcome: str) -> None:
        """Count an answered commit: `ok`, or `put_off` to the next one."""

    def on_statistics(self, statistics: Mapping[str, object]) -> None:
        """Take librdkafka's statistics (see its STATISTICS.md)."""

    def on_fatal(self, error: FatalError) -> None:
        """End the process: the consumer can't go on."""


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
