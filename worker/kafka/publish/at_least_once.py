"""At least once: an outcome is published until the broker has it; its offset is committed after that."""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial

from worker.errors import PoisonError, TransientError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.source import Source
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition
from worker.kafka.publish.idempotent_producer import IdempotentProducer
from worker.resilience.retry import RetryPolicy


class AtLeastOnce:
    """See ``Guarantee``."""

    def __init__(self, source: Source, producer: IdempotentProducer, policy: RetryPolicy) -> None:
        self._source = source
        self._producer = producer
        self._policy = policy

    async def start(self) -> None:
        """Start the producer; see ``Guarantee``."""
        self._producer.start()

    async def deliver(self, partition: AssignedPartition, position: Position, publication: Publication | None) -> None:
        """Publish until the broker has it, however long that takes; see ``Guarantee``."""
        await partition.await_publish_order(position)
        # One after the other: what the broker has is not produced again because the next is not taken.
        records = deque([] if publication is None else [publication])
        while records:
            records.extend(
                await self._policy.run(
                    partial(self._publish, records.popleft()),
                    on_retry=lambda error, _failures, _pause_s: partition.stop(position, str(error)),
                )
            )
        partition.go_on(position)
        partition.complete(position)

    async def _publish(self, record: Publication) -> Sequence[Publication]:
        """Return what is to be published after this record, or instead of it."""
        try:
            await self._producer.publish(record)
        except PoisonError as error:
            instead = record.refused(error)
            if instead is None:
                raise TransientError(f"nothing is skipped, so this partition waits: {error}") from error
            return [*instead, *record.also]
        record.acknowledged()
        return record.also

    def commit(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Commit what is completed; see ``Guarantee``."""
        self._source.commit(_uncommitted(assigned))

    async def revoke(self, leaving: Mapping[Partition, AssignedPartition]) -> Mapping[Partition, CompletedPrefix]:
        """Leave the last commit to the source; see ``Guarantee``."""
        return {key: partition.prefix for key, partition in leaving.items()}

    async def commit_final(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Commit for the last time; see ``Guarantee``."""
        await self._source.commit_now(_uncommitted(assigned))

    async def close(self) -> None:
        """Deliver what is queued; see ``Guarantee``."""
        await self._producer.close()


def _uncommitted(assigned: Mapping[Partition, AssignedPartition]) -> dict[Partition, CompletedPrefix]:
    return {key: each.prefix for key, each in assigned.items() if each.prefix.to_commit is not None}
