"""What may be committed: the completed prefix of each assigned partition, nothing else.

Queries finish out of order; Kafka knows one number per partition. Committing past an unfinished offset would lose
its query at the next restart, so only the longest run of finished offsets counts (compare ``partitionTracker`` in
Redpanda Connect).
"""

import re
from collections import deque
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TopicPartition

Partition = tuple[str, int]
"""Topic and number."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands: topic, partition, offset and the leader epoch it was read under, as one value."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int | None = None

    @property
    def topic_partition(self) -> Partition:
        """The partition, as a dictionary key."""
        return (self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class LogId:
    """Which log offsets are of: a topic that is deleted and made again keeps its name and begins its offsets anew.

    Kafka's group offsets know the name alone, so this is noted in each commit's metadata. With the cluster's id, for
    offsets that a mirroring tool has translated for another cluster come with what was noted in the first.
    """

    cluster: str
    topic: str
    """Kafka's topic id; empty where the brokers give none (before 2.8)."""

    def replaces(self, former: "LogId | None") -> bool:
        """Whether this topic was made in the other one's place."""
        if former is None or not self.topic or not former.topic:
            return False
        return self.cluster == former.cluster and self.topic != former.topic

    @property
    def metadata(self) -> str | None:
        """Itself, as a commit notes it."""
        return f"log={self.cluster}:{self.topic}" if self.topic else None

    @staticmethod
    def from_metadata(metadata: str | None) -> "LogId | None":
        """Return what a commit notes; None where it notes nothing, or something that is not ours."""
        noted = re.fullmatch(r"log=(.*):([^:]+)", metadata or "")
        return None if noted is None else LogId(noted[1], noted[2])


class Lease:
    """One partition's stay with this member in one log, from its assignment until it is revoked, lost or made again.

    Ended by the consumer's thread, before it gives the partition up and whatever the loop is doing: nothing may be
    committed for a partition that has left, and no coroutine that can be late or cut off may decide that. Any thread
    may read it.
    """

    def __init__(self, log: LogId | None = None) -> None:
        self.ended = False
        self.log = log
        """Which log it reads; None as long as that is not known, and nothing is fetched."""

    def end(self) -> None:
        """Say that the partition leaves."""
        self.ended = True


class CompletedPrefix:
    """Offsets of one epoch of one partition: tracked in order, completed in any order.

    Belongs to the loop thread. A partition that is revoked and comes back, or whose offsets begin again (its topic was
    made anew, its log truncated), gets a new object, so that a late completion from the former epoch can't move the
    commit of the present one.
    """

    def __init__(self, lease: Lease | None = None) -> None:
        self._lease = Lease() if lease is None else lease
        self._unfinished: deque[tuple[Position, float, float | None]] = deque()
        self._finished: set[int] = set()
        self._last_tracked = -1
        self._leader_epoch = -1
        self._completed: Position | None = None
        self._end: Position | None = None
        self.committed: Position | None = None
        """The last record whose offset this assignment has committed."""
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the partition has been taken away or has begun again: checked where the commit is made."""
        return self._ended or self._lease.ended

    @property
    def log(self) -> LogId | None:
        """Which log its offsets are of."""
        return self._lease.log

    @property
    def last_tracked(self) -> int:
        """The last offset that was tracked or passed over; a record that is not behind it is of another log."""
        return self._last_tracked

    def has_passed(self, position: Position) -> bool:
        """Whether a record that is not behind ``last_tracked`` is one that was handed over before, and no other.

        librdkafka (2.16) was seen to fetch a partition again from where it had begun, on a slow network. Leaders only
        append: what a log holds at this offset now and did not before has a later epoch than all before it (KIP-101).
        """
        if self.log is None or not self.log.topic or position.leader_epoch is None:
            return False
        return position.offset <= self._last_tracked and position.leader_epoch <= self._leader_epoch

    def track(self, position: Position, *, now_s: float, produced_s: float | None = None) -> None:
        """Begin with an offset. Gaps are fine (compaction, transaction markers); going back is a ValueError.

        ``produced_s``: the record's Kafka timestamp, Unix seconds, if it has one.
        """
        if position.offset <= self._last_tracked:
            raise ValueError(f"offset {position.offset} tracked after {self._last_tracked}")
        self._last_tracked = position.offset
        if position.leader_epoch is not None:
            self._leader_epoch = max(self._leader_epoch, position.leader_epoch)
        self._end = None
        self._unfinished.append((position, now_s, produced_s))

    def complete(self, position: Position) -> None:
        """Mark an offset's outcome as acknowledged by the broker; without effect once the assignment has ended."""
        if self.ended:
            return
        self._finished.add(position.offset)
        while self._unfinished and self._unfinished[0][0].offset in self._finished:
            self._completed, _, _ = self._unfinished.popleft()
            self._finished.discard(self._completed.offset)
        if not self._unfinished and self._end is not None:
            self._completed, self._end = self._end, None

    def reach_end(self, last: Position) -> None:
        """Take note that up to this offset no other record comes: it counts once every record before it does.

        Behind transactions it is no record, and without it a partition that is done with would lag for ever.
        """
        if last.offset <= self._last_tracked:
            return
        self._last_tracked = last.offset
        if self._unfinished:
            self._end = last
        else:
            self._completed = last

    def end(self) -> None:
        """End the epoch (revoked, lost or begun again): from now on nothing here may be committed."""
        self._ended = True

    def mark_committed(self, position: Position) -> None:
        """Remember what the broker has taken, so that it is not committed again."""
        self.committed = position

    @property
    def to_commit(self) -> Position | None:
        """The last record of the completed prefix if it is not committed yet; the commit is its offset + 1."""
        return None if self._completed == self.committed else self._completed

    @property
    def pending(self) -> int:
        """Offsets tracked and not yet part of the prefix."""
        return len(self._unfinished)

    @property
    def oldest_since_s(self) -> float | None:
        """When the oldest unfinished offset was tracked; None if there is none."""
        return self._unfinished[0][1] if self._unfinished else None

    @property
    def oldest_produced_s(self) -> float | None:
        """When the oldest unfinished record was produced, Unix seconds; None if there is none, or it does not say."""
        return self._unfinished[0][2] if self._unfinished else None

    @property
    def held_back(self) -> int:
        """Offsets done with that are not part of the prefix, for one before them is not."""
        return len(self._finished)


def to_commit(last: Position, log: LogId | None = None) -> TopicPartition:
    """Return what says that everything up to this record is done with, and what the offset alone can't tell.

    With the leader epoch whoever begins there has the broker compare it, and learns that the log was truncated
    (KIP-320); with the log's id it learns that the topic was made anew.
    """
    noted: dict[str, Any] = {}
    if last.leader_epoch is not None:
        noted["leader_epoch"] = last.leader_epoch
    if log is not None and log.metadata is not None:
        noted["metadata"] = log.metadata
    return TopicPartition(last.topic, last.partition, last.offset + 1, **noted)
