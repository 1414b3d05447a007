"""In which order the outcomes of one partition may be published. Pure: no time, no tasks, no Kafka."""

from collections import deque
from typing import Literal

Ordering = Literal["none", "key", "partition"]


class PublishOrder:
    """Lets an outcome go when everything before it in its lane is published.

    A lane is a key or the whole partition. Without an ordering, and for records without a key when ordered by key,
    there is no lane: they wait for nobody and nobody for them.
    """

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._lanes: dict[bytes, deque[int]] = {}
        self._lane_of: dict[int, bytes] = {}
        self._waiting: set[int] = set()

    def admit(self, offset: int, key: bytes | None) -> None:
        """Take a query in, in the order of offsets."""
        if self._ordering == "none" or (self._ordering == "key" and key is None):
            return
        lane = key if self._ordering == "key" and key is not None else b""
        self._lane_of[offset] = lane
        self._lanes.setdefault(lane, deque()).append(offset)

    def made(self, offset: int) -> bool:
        """Take note that an outcome is there; return whether it may be published now. If not, it waits."""
        lane = self._lane_of.get(offset)
        if lane is None or self._lanes[lane][0] == offset:
            return True
        self._waiting.add(offset)
        return False

    def published(self, offset: int) -> int | None:
        """Take note that an outcome that could go is published; return the offset that waited for it, if one did."""
        lane = self._lane_of.pop(offset, None)
        if lane is None:
            return None
        queue = self._lanes[lane]
        queue.popleft()
        if not queue:
            del self._lanes[lane]
            return None
        if queue[0] not in self._waiting:
            return None
        self._waiting.discard(queue[0])
        return queue[0]
