"""What is not to be fetched now, and what the client has been told of it."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

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


HOLD_S = 1.0
"""How long everything is paused by not polling before the client is told. Meanwhile a rebalance waits, and so does the
answer to a commit."""


class PollGate:
    """What the loop wants paused, and whether to poll meanwhile. One thread polls, the others set and wake.

    A pause throws away what the client has fetched ahead, so that after a resume a fast device waits for the broker.
    Under back-pressure most last for milliseconds: for ``HOLD_S`` nothing is polled, and nothing thrown away.
    """

    def __init__(self) -> None:
        self._wanted = PauseSet()
        self._held_until_s = 0.0
        self._woken = threading.Event()

    def set(self, to_pause: PauseSet) -> None:
        """Take what is to be paused from now on, instead of what was."""
        if to_pause.everything and not self._wanted.everything:
            self._held_until_s = time.monotonic() + HOLD_S
        self._wanted = to_pause
        self.wake()

    def wake(self) -> None:
        """End the wait of ``await_open``: there is something else to do for the thread that polls."""
        self._woken.set()

    @property
    def to_apply(self) -> PauseSet:
        """What the client is to pause now."""
        wanted = self._wanted
        return replace(wanted, everything=False) if self._is_held(wanted) else wanted

    def await_open(self, timeout_s: float) -> bool:
        """Return whether to poll now; if not, wait for ``wake``, ``timeout_s`` or the end of the hold before."""
        if not self._is_held(self._wanted):
            return True
        self._woken.wait(min(timeout_s, HOLD_S))
        # Before anything is looked at again: what comes from here on wakes the next wait.
        self._woken.clear()
        return False

    def _is_held(self, wanted: PauseSet) -> bool:
        return wanted.everything and time.monotonic() < self._held_until_s


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
