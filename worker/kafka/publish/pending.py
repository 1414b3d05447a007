"""What waits for its transaction, and which of it may go into the next one. Belongs to the loop."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from worker.kafka.consume.offsets import CompletedPrefix, Position, to_commit
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition


@dataclass(eq=False, slots=True)
class PendingOutcome:
    """An outcome that waits for its transaction."""

    partition: AssignedPartition
    position: Position
    records: list[Publication]
    """What goes out for it, in this order."""
    committed: "asyncio.Future[None]"
    failures: int = 0
    not_before_s: float = 0.0
    """On the loop's clock: it may not be tried again before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction holds."""

    outcomes: Sequence[PendingOutcome]
    ends: Mapping[CompletedPrefix, Position]
    """Of partitions with nothing in flight: how far they may be committed, with no outcome of their own."""

    @property
    def offsets(self) -> list[TopicPartition]:
        """Where each partition goes on once the transaction is committed."""
        # Outcomes are in the order of offsets, so the last of a partition counts.
        last = {each.partition.prefix: each.position for each in self.outcomes if not each.partition.superseded}
        return [to_commit(position, prefix.log) for prefix, position in (last | dict(self.ends)).items()]

    @property
    def prefixes(self) -> frozenset[CompletedPrefix]:
        """Those whose offsets are in it: if one has ended when they are sent, nothing of this may be committed."""
        counting = {outcome.partition.prefix for outcome in self.outcomes if not outcome.partition.superseded}
        return frozenset(counting | self.ends.keys())


class PendingOutcomes:
    """Outcomes that wait for their transaction, by partition."""

    def __init__(self) -> None:
        self._of: dict[AssignedPartition, list[PendingOutcome]] = {}
        self._idle: list[AssignedPartition] = []

    def add(self, outcome: PendingOutcome) -> None:
        """Take an outcome that has been made."""
        self._of.setdefault(outcome.partition, []).append(outcome)

    def remove(self, outcome: PendingOutcome) -> None:
        """Forget an outcome that counts."""
        waiting = self._of.get(outcome.partition, [])
        if outcome in waiting:
            waiting.remove(outcome)

    def forget(self, partition: AssignedPartition) -> None:
        """Forget a partition that has left."""
        self._of.pop(partition, None)

    def look_for_ends(self, assigned: Iterable[AssignedPartition]) -> bool:
        """Look which partitions are done with and not committed up to their end; return whether any is."""
        self._idle = [partition for partition in assigned if _end_to_commit(partition) is not None]
        return bool(self._idle)

    @property
    def all(self) -> Iterator[PendingOutcome]:
        """Every outcome that waits."""
        return (outcome for waiting in self._of.values() for outcome in waiting)

    @property
    def any_stopped(self) -> bool:
        """Whether one of the partitions has stopped."""
        return any(partition.why_stopped for partition in self._of)

    def next_batch(self, now_s: float) -> Batch:
        """Take of each partition, in the order of its offsets, what is in the completed prefix and may go now."""
        for partition in [partition for partition in self._of if _left(partition)]:
            del self._of[partition]
        flowing: list[PendingOutcome] = []
        stopped: list[PendingOutcome] = []
        for partition in self._of:
            batch = flowing if partition.why_stopped is None else stopped
            batch.extend(self._ready(partition, now_s))
        # A partition that is stopped is tried when the others have nothing, so that its failure is not theirs; ends
        # have time.
        outcomes = flowing or stopped
        ends = {} if outcomes else {each.prefix: end for each in self._idle if (end := _end_to_commit(each))}
        return Batch(outcomes, ends)

    def _ready(self, partition: AssignedPartition, now_s: float) -> Iterator[PendingOutcome]:
        last = partition.prefix.to_commit
        for outcome in sorted(self._of[partition], key=lambda outcome: outcome.position.offset):
            # Once its offsets have begun again there is no prefix to wait for.
            complete = partition.superseded or (last is not None and outcome.position.offset <= last.offset)
            if not complete or outcome.not_before_s > now_s:
                return
            yield outcome


def _left(partition: AssignedPartition) -> bool:
    # One whose offsets have begun again is published without them: its records may not be there for anybody else.
    return partition.prefix.ended and not partition.superseded


def _end_to_commit(partition: AssignedPartition) -> Position | None:
    # While a job of it lasts, its outcome carries the offset.
    prefix = partition.prefix
    return None if partition.tasks or prefix.pending or prefix.ended else prefix.to_commit
