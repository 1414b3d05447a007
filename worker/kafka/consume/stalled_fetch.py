"""Partitions that the client was given and does not fetch: found in its statistics, to be assigned to it anew.

A new assignment begins with a lookup of its committed offsets. Where the coordinator answers that with an error, for it
has moved or the member's epoch is a moment old, librdkafka 2.16 does not ask again (librdkafka#5586): the partition is
this member's, heartbeats go on, and no record of it ever comes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from worker.kafka.consume.commits import Partition

# librdkafka's names (rd_kafka_fetch_states) where fetching has not begun: never yet, or not since it was last owned.
_NOT_BEGUN = frozenset({"none", "stopped"})

# With the default interval of statistics, 15 s: longer than a lookup that is merely slow, which is repeated then.
PATIENCE_REPORTS = 3


class FetchWatch:
    """Counts the reports in a row in which the fetching of a partition has not begun. Used on one thread."""

    def __init__(self) -> None:
        self._reports: Counter[Partition] = Counter()

    def observe(self, statistics: Mapping[str, Any], owned: Iterable[Partition]) -> None:
        """Take a report (see librdkafka's STATISTICS.md)."""
        waiting = [partition for partition in owned if _fetch_state(statistics, partition) in _NOT_BEGUN]
        self._reports = Counter({partition: self._reports[partition] + 1 for partition in waiting})

    def take_stuck(self) -> set[Partition]:
        """Return the partitions to be assigned anew, and begin to count from nothing for them."""
        stuck = {partition for partition, reports in self._reports.items() if reports >= PATIENCE_REPORTS}
        for partition in stuck:
            del self._reports[partition]
        return stuck


def _fetch_state(statistics: Mapping[str, Any], partition: Partition) -> str | None:
    topic, number = partition
    known = statistics.get("topics", {}).get(topic, {}).get("partitions", {})
    state: str | None = known.get(str(number), {}).get("fetch_state")
    return state
