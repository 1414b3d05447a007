"""Between the consumer's thread and the loop: what the source tells, and what it is told to leave alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.errors import FatalError
from worker.kafka.consume.commits import Partition
from worker.kafka.consume.offsets import CompletedPrefix
from worker.kafka.consume.records import Record

# Of a revoke's time, what its queries get; the rest is for their transaction or commit.
FINISH_SHARE = 0.8
TRANSACTION_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Hold:
    """What must not be fetched now."""

    everything: bool = False
    partitions: frozenset[Partition] = frozenset()

    def covers(self, partition: Partition) -> bool:
        """Whether this partition is held."""
        return self.everything or partition in self.partitions


class SourceListener(Protocol):
    """What the source tells the loop; every method is called on the loop's thread, in the order things happened."""

    def on_records(self, records: Sequence[Record]) -> None:
        """Take records of assigned partitions, in offset order per partition."""

    def on_assigned(self, partitions: Sequence[Partition]) -> None:
        """Begin with these partitions; their records come after this call. None: a member with nothing to do."""

    async def on_revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, CompletedPrefix]:
        """Finish what can be finished within ``FINISH_SHARE`` of ``revoke_timeout_s``; return the prefixes to commit.

        The source commits them within the rest; when all of it has passed, it lets go whatever has happened.
        """
        ...

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        """Drop these partitions at once: they may have another owner already."""

    def on_statistics(self, statistics: Mapping[str, object]) -> None:
        """Take librdkafka's statistics (see its STATISTICS.md)."""

    def on_fatal(self, error: FatalError) -> None:
        """End the process: the consumer can't go on."""
