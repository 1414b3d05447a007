"""What is not to be fetched now, and what the client has been told of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from worker.kafka.consume.offsets import Partition


@dataclass(frozen=True, slots=True)
class PauseSet:
    """What must not be fetched now: the whole state, not a change of it."""

    everything: bool = False
    partitions: frozenset[Partition] = frozenset()

    def and_also(self, partitions: frozenset[Partition]) -> "PauseSet":
        """Return a larger one, with these partitions in it."""
        return PauseSet(self.everything, self.partitions | partitions) if partitions else self

    def covers(self, partition: Partition) -> bool:
        """Whether this partition is among it."""
        return self.everything or partition in self.partitions


class PausedPartitions:
    """What the client has paused. Used on the consumer's thread."""

    def __init__(self) -> None:
        self.applied = PauseSet()
        """What was last asked for."""
        self._paused: set[Partition] = set()
        self._resume_all = False

    def apply(self, consumer: Consumer, to_pause: PauseSet, owned: set[Partition]) -> None:
        """Pause and resume owned partitions until the client does as it should."""
        self.applied = to_pause
        wanted = {partition for partition in owned if to_pause.covers(partition)}
        if pause := wanted - self._paused:
            consumer.pause(_topic_partitions(pause))
        resumed = owned if self._resume_all else self._paused
        if resume := resumed - wanted:
            consumer.resume(_topic_partitions(resume))
        self._paused = wanted
        self._resume_all = False

    def resume_all_again(self) -> None:
        """Resume with the next ``apply`` whatever is not to be paused, paused or not; call it now and then.

        A resume that met a change of the assignment may be lost (librdkafka#5591), and one of a partition that is not
        paused does nothing.
        """
        self._resume_all = True

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Take note of an unassignment: the client forgets the pause with it, what comes back is fetched."""
        self._paused.difference_update(partitions)
        # Assigned again at once, some stay paused as they were (seen with librdkafka 2.16).
        self._resume_all = True


def _topic_partitions(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, number in partitions]
