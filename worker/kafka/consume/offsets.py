"""The completed prefix of one assigned partition: the only thing that is ever committed.

Queries finish out of order; Kafka knows one number per partition. Committing past an unfinished offset would lose
its query at the next restart, so only the longest run of finished offsets counts (compare ``partitionTracker`` in
Redpanda Connect).
"""

from collections import deque

from worker.kafka.consume.records import Position


class CompletedPrefix:
    """Offsets of one assignment of one partition: tracked in order, completed in any order.

    Belongs to the loop thread. A partition that is revoked and comes back gets a new object, so that a late
    completion from the former assignment can't move the commit of the present one.
    """

    def __init__(self) -> None:
        self._unfinished: deque[tuple[Position, float]] = deque()
        self._finished: set[int] = set()
        self._last_tracked = -1
        self._completed: Position | None = None
        self._committed: Position | None = None
        self._ended = False

    def track(self, position: Position, *, now_s: float) -> None:
        """Begin with an offset. Gaps are fine (compaction, transaction markers); going back is a ValueError."""
        if position.offset <= self._last_tracked:
            raise ValueError(f"offset {position.offset} tracked after {self._last_tracked}")
        self._last_tracked = position.offset
        self._unfinished.append((position, now_s))

    def complete(self, position: Position) -> None:
        """Mark an offset's outcome as acknowledged by the broker; without effect once the assignment has ended."""
        if self._ended:
            return
        self._finished.add(position.offset)
        while self._unfinished and self._unfinished[0][0].offset in self._finished:
            self._completed, _ = self._unfinished.popleft()
            self._finished.discard(self._completed.offset)

    def end(self) -> None:
        """End the assignment (revoked or lost): from now on nothing here may be committed."""
        self._ended = True

    def mark_committed(self, position: Position) -> None:
        """Remember what the broker has taken, so that it is not committed again."""
        self._committed = position

    @property
    def ended(self) -> bool:
        """Whether the partition has been taken away: checked where the commit is made."""
        return self._ended

    @property
    def to_commit(self) -> Position | None:
        """The last record of the completed prefix if it is not committed yet; the commit is its offset + 1."""
        return None if self._completed == self._committed else self._completed

    @property
    def pending(self) -> int:
        """Offsets tracked and not yet part of the prefix."""
        return len(self._unfinished)

    @property
    def committed(self) -> Position | None:
        """The last record whose offset this assignment has committed."""
        return self._committed

    @property
    def oldest_since_s(self) -> float | None:
        """When the oldest unfinished offset was tracked; None if there is none."""
        return self._unfinished[0][1] if self._unfinished else None
