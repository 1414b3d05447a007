"""At least once: an outcome is published as soon as it is made, its offset is committed after the broker has it."""

from collections.abc import Mapping

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from worker.errors import PoisonError, TransientError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.source import Source
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import Assignment
from worker.kafka.publish.producer import Sink
from worker.settings import KafkaSettings

FIRST_RETRY_S = 0.5


class AtLeastOnce:
    """See ``Guarantee``."""

    def __init__(self, kafka: KafkaSettings, source: Source, sink: Sink) -> None:
        self._kafka = kafka
        self._source = source
        self._sink = sink

    async def start(self) -> None:
        """Start the producer; see ``Guarantee``."""
        self._sink.start()

    async def deliver(self, assignment: Assignment, position: Position, publication: Publication) -> None:
        """Publish until the broker has it, however long that takes; see ``Guarantee``."""

        def stop(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            assignment.stop(position, str(error))

        # No end to the tries: giving an outcome up would lose it. What is capped is the time between two.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=FIRST_RETRY_S, max=self._kafka.publish_retry_max_s),
            before_sleep=stop,
        )
        await assignment.turn(position)
        await retrying(self._publish, publication)
        assignment.go_on(position)
        assignment.complete(position)

    def commit(self, assigned: Mapping[Partition, Assignment]) -> None:
        """Commit what is completed; see ``Guarantee``."""
        self._source.commit(_uncommitted(assigned))

    async def let_go(self, leaving: Mapping[Partition, Assignment]) -> Mapping[Partition, CompletedPrefix]:
        """Leave the last commit to the source; see ``Guarantee``."""
        return {partition: assignment.prefix for partition, assignment in leaving.items()}

    async def finish(self, assigned: Mapping[Partition, Assignment]) -> None:
        """Commit for the last time; see ``Guarantee``."""
        await self._source.commit_now(_uncommitted(assigned))

    async def close(self) -> None:
        """Deliver what is queued; see ``Guarantee``."""
        await self._sink.close()

    async def _publish(self, publication: Publication) -> None:
        try:
            await self._sink.publish(publication)
        except PoisonError as refused:
            if publication.if_refused is None:
                raise TransientError(f"nothing is skipped, so this partition waits: {refused}") from refused
            await self._publish(publication.if_refused(refused))
        else:
            publication.on_acknowledged()


def _uncommitted(assigned: Mapping[Partition, Assignment]) -> dict[Partition, CompletedPrefix]:
    return {key: a.prefix for key, a in assigned.items() if a.prefix.to_commit is not None}
