"""Where the event stands that a document was last written for: kept beside it, so that no older one undoes it.

Kafka hands records out again after a crash, a lost session or a reset of the group; the mark tells what the collection
knows already (docs/decisions/0022-live-index.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.kafka.consume.records import Record
from worker.recall.chroma_collections import PRIVATE_PREFIX

PARTITION_KEY = f"{PRIVATE_PREFIX}partition"
OFFSET_KEY = f"{PRIVATE_PREFIX}offset"
TIMESTAMP_KEY = f"{PRIVATE_PREFIX}timestamp_ms"


@dataclass(frozen=True, slots=True)
class Mark:
    """Where an event of the documents topic stands, and when it was written."""

    partition: int
    offset: int
    timestamp_ms: int | None

    @staticmethod
    def of(record: Record) -> "Mark":
        """Return a record's."""
        position = record.position
        return Mark(position.partition, position.offset, record.timestamp_ms)

    @staticmethod
    def from_stored(metadata: Mapping[str, Any]) -> "Mark | None":
        """Return the mark a chunk carries, if it does."""
        partition, offset = metadata.get(PARTITION_KEY), metadata.get(OFFSET_KEY)
        if not isinstance(partition, int) or not isinstance(offset, int):
            return None
        return Mark(partition, offset, metadata.get(TIMESTAMP_KEY))

    @property
    def stored(self) -> dict[str, int]:
        """Itself, as metadata."""
        known = {PARTITION_KEY: self.partition, OFFSET_KEY: self.offset}
        return known if self.timestamp_ms is None else known | {TIMESTAMP_KEY: self.timestamp_ms}

    def is_newer_than(self, event: "Mark") -> bool:
        """Whether an event was undone by the one of this mark before it came (again).

        Within a partition by offset; but where the lower offset has the later timestamp, the topic was made again, and
        its offsets begin anew. Across partitions, where a topic has gained some and a key has moved, by timestamp.
        """
        if None in {self.timestamp_ms, event.timestamp_ms}:
            return self.partition == event.partition and self.offset > event.offset
        mine_ms, its_ms = self.timestamp_ms or 0, event.timestamp_ms or 0
        if self.partition != event.partition:
            return mine_ms > its_ms
        return self.offset > event.offset and mine_ms >= its_ms
