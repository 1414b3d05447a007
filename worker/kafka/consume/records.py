"""What the consumer's thread hands over to the loop: records, and changes of what is assigned."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from worker.errors import FatalError
from worker.kafka.consume.offsets import CompletedPrefix, Lease, Partition, Position

LAST_TIMESTAMP_MS = 253_402_300_799_999
"""The end of the year 9999, and of Python's and most others' dates."""

# Of a revoke's time, what its queries get, and what those that were cut off then get to end; the rest is for their
# transaction or commit.
FINISH_SHARE = 0.8
CANCEL_SHARE = 0.05
TRANSACTION_SHARE = 0.1

NO_LEASES: Mapping[Partition, Lease] = MappingProxyType({})
"""Of a source that never takes a partition away unheard."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record's bytes, untouched: key, value and headers are exactly what the producer sent."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None
    """Kafka timestamp, Unix milliseconds; None where the topic carries none."""
    unreadable_headers: str | None = None
    """Why ``headers`` is empty although the producer sent some; None where it holds what there is."""

    @property
    def timestamp_s(self) -> float | None:
        """Kafka timestamp, Unix seconds; None also where the producer sent a number that is no date."""
        if self.timestamp_ms is None or not 0 <= self.timestamp_ms <= LAST_TIMESTAMP_MS:
            return None
        return self.timestamp_ms / 1000


class SourceListener(Protocol):
    """What the source tells the loop; every method but ``prepare`` is called there, in the order things happened."""

    def prepare(self, records: Sequence[Record]) -> Callable[[], None]:
        """Read records, in offset order per partition; what is returned has the loop take them.

        Called on the consumer's thread: what there is to decode holds up no other query. Whatever it raises is fatal.
        """
        ...

    def on_ends(self, ends: Sequence[Position]) -> None:
        """Take note that partitions were read to their end: of each the last offset before it, record or not."""

    def on_assigned(self, partitions: Sequence[Partition], leases: Mapping[Partition, Lease] = NO_LEASES) -> None:
        """Begin with these partitions; their records come after this call. None: a member with nothing to do.

        A partition's lease ends when it leaves, before anybody is told.
        """

    async def on_revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, CompletedPrefix]:
        """Finish what can be finished within ``FINISH_SHARE`` of ``revoke_timeout_s``; return the prefixes to commit.

        The source commits them within the rest; when all of it has passed, it gives them up whatever has happened.
        """
        ...

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        """Drop these partitions at once: they may have another owner already."""

    def on_made_again(self, leases: Mapping[Partition, Lease]) -> None:
        """Begin a new epoch of these partitions, whose topic was made again; its records come from the beginning."""

    def on_commit(self, outcome: str) -> None:
        """Count an answered commit: `ok`, or `put_off` to the next one."""

    def on_statistics(self, statistics: Mapping[str, object]) -> None:
        """Take librdkafka's statistics (see its STATISTICS.md)."""

    def on_fatal(self, error: FatalError) -> None:
        """End the process: the consumer can't go on."""


def from_message(message: Message) -> Record:
    """Copy a message without an error out of librdkafka; what its producer may have put into it raises nothing."""
    kind, timestamp_ms = message.timestamp()
    headers, why_unreadable = _headers(message)
    return Record(
        position=position_of(message),
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=headers,
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
        unreadable_headers=why_unreadable,
    )


def position_of(message: Message) -> Position:
    """Return where a message stands, or where an end of a partition is."""
    return Position(
        topic=message.topic() or "",
        partition=_known(message.partition()),
        offset=_known(message.offset()),
        leader_epoch=message.leader_epoch(),
    )


_read_headers = operator.methodcaller("headers")


def _headers(message: Message) -> tuple[tuple[tuple[str, bytes | None], ...], str | None]:
    try:
        # Once only: after a failure the client answers a second call with a list that holds a null pointer. And not as
        # message.headers(): where that has been called a few times the interpreter no longer checks that the client
        # has both failed and returned such a list; the failure then comes out of some later call, or of none.
        headers = _read_headers(message)
    except Exception as error:  # noqa: BLE001 - a SystemError by the client, caused by the name of a header
        return (), f"a header's name can't be read: {error.__cause__ or error}"
    # The stub also allows what produce() takes; a consumed message always has a list of (str, bytes | None).
    return tuple(cast("list[tuple[str, bytes | None]]", headers or [])), None


def _known(number: int | None) -> int:
    if number is None:
        raise ValueError("a consumed record has a partition and an offset")
    return number


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
