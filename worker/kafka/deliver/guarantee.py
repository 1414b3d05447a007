"""What a delivery guarantee has to do: publish outcomes, and commit the offsets of those that count."""

from collections.abc import Mapping
from typing import Protocol

from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import Assignment


class Guarantee(Protocol):
    """Used on the loop's thread; ``start`` and ``close`` once each, the source runs in between."""

    async def start(self) -> None:
        """Get ready to publish, before anything is consumed. FatalError if the broker refuses."""

    async def deliver(self, assignment: Assignment, position: Position, publication: Publication) -> None:
        """Return when the outcome counts. FatalError is all it raises.

        What the topic does not take now is tried again until it does; meanwhile the assignment is stopped.
        """

    def commit(self, assigned: Mapping[Partition, Assignment]) -> None:
        """Commit the completed prefixes; called at every cadence, returns at once."""

    async def let_go(self, leaving: Mapping[Partition, Assignment]) -> Mapping[Partition, CompletedPrefix]:
        """End with revoked partitions, whose jobs have ended; return the prefixes the source is to commit last."""
        ...

    async def finish(self, assigned: Mapping[Partition, Assignment]) -> None:
        """Commit what is left at the end of a drain. FatalError if the broker refuses for good."""

    async def close(self) -> None:
        """Let go of the producer and its threads."""
