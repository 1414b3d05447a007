"""The seams of delivery: a record becomes a job, its outcome a publication, and a guarantee makes that count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.wire import Headers
from worker.errors import PoisonError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.deliver.partition import AssignedPartition


@dataclass(frozen=True, slots=True)
class Publication:
    """An outcome as a record, made and not yet published; each kind of outcome says in a subclass what follows.

    Holding it costs memory; publishing it twice costs a duplicate.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size_bytes(self) -> int:
        """What it holds in memory, about."""
        fields = (self.key, self.value, *(value for _, value in self.headers))
        return sum(len(field) for field in fields if field is not None) + sum(len(name) for name, _ in self.headers)

    def acknowledged(self) -> None:
        """Take note, on the loop and once, that it counts: the broker has it, or its transaction is committed."""

    def refused(self, error: PoisonError) -> "Publication | None":  # noqa: ARG002 - for subclasses
        """Return what goes out instead where the topic never takes this record.

        None: there is nothing instead, so it is tried again until it is taken.
        """
        return None


class Job(Protocol):
    """The work of one record."""

    @property
    def pairs(self) -> int:
        """(query, document) pairs it may put in flight: its weight for backpressure."""
        ...

    async def run(self) -> Publication:
        """Return the outcome, to be published by the caller; FatalError is all it may raise."""
        ...


class Guarantee(Protocol):
    """Publishes outcomes, and commits the offsets of those that count.

    Used on the loop's thread; ``start`` and ``close`` once each, the source runs in between.
    """

    async def start(self) -> None:
        """Get ready to publish, before anything is consumed. FatalError if the broker refuses."""

    async def deliver(self, partition: AssignedPartition, position: Position, publication: Publication) -> None:
        """Return when the outcome counts. FatalError is all it raises.

        What the topic does not take now is tried again until it does; meanwhile the partition is stopped.
        """

    def commit(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Commit the completed prefixes; called at every cadence, returns at once."""

    async def revoke(self, leaving: Mapping[Partition, AssignedPartition]) -> Mapping[Partition, CompletedPrefix]:
        """End with revoked partitions, whose jobs have ended; return the prefixes the source is to commit last."""
        ...

    async def commit_final(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Commit what is left at the end of a drain. FatalError if the broker refuses for good."""

    async def close(self) -> None:
        """Let go of the producer and its threads."""
