"""The seams of delivery: a record becomes a job, its outcome a publication or none, and a guarantee lets that count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    partition: int = field(default=-1, kw_only=True)
    """-1: where the key leads."""
    asked_for: bool = field(default=False, kw_only=True)
    """The event itself named the topic: one that is not there, or not for us, refuses this record and stops nothing."""
    also: "Sequence[Publication]" = field(default=(), kw_only=True)
    """Records that belong to the outcome too: the offset counts when the broker has them all."""

    def acknowledged(self) -> None:
        """Take note, on the loop and once, that it counts: the broker has it, or its transaction is committed."""

    def refused(self, error: PoisonError) -> "Sequence[Publication] | None":  # noqa: ARG002 - for subclasses
        """Return what goes out instead where the topic never takes this record: perhaps nothing.

        None: it may not be left out, so it is tried again until it is taken. ``also`` goes out in any case.
        """
        return None


class Job(Protocol):
    """The work of one record."""

    @property
    def pairs(self) -> int:
        """(query, document) pairs it may put in flight: its weight for backpressure."""
        ...

    async def run(self) -> Publication | None:
        """Return the outcome, to be published by the caller, or None: there is nothing to publish.

        FatalError is all it may raise. Cancelled, it ends when what it can't take back has ended.
        """
        ...


class Guarantee(Protocol):
    """Publishes outcomes, and commits the offsets of those that count.

    Used on the loop's thread; ``start`` and ``close`` once each, the source runs in between.
    """

    async def start(self) -> None:
        """Get ready to publish, before anything is consumed. FatalError if the broker refuses."""

    async def deliver(self, partition: AssignedPartition, position: Position, publication: Publication | None) -> None:
        """Return when the outcome counts; one of nothing counts by its being made. FatalError is all it raises.

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
