"""Partitions that the client was given and does not fetch: found in its statistics, assigned to it once more.

A new assignment begins with a lookup of its committed offsets. Where the coordinator answers that with an error, for it
has moved or the member's epoch is a moment old, librdkafka 2.16 does not ask again (librdkafka#5586): the partition is
this member's, heartbeats go on, and no record of it ever comes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, TopicPartition

from worker.kafka.consume.offsets import Partition

logger = structlog.get_logger()

# librdkafka's names (rd_kafka_fetch_states) where fetching has not begun: never yet, or not since it was last owned.
_NOT_BEGUN = frozenset({"none", "stopped"})

# With the default interval of statistics, 15 s: longer than a lookup that is merely slow, which is repeated then.
STALLED_AFTER_REPORTS = 3


class StalledFetchDetector:
    """Counts the reports in a row in which the fetching of a partition has not begun. Used on the consumer's thread."""

    def __init__(self) -> None:
        self._reports: Counter[Partition] = Counter()

    def observe(self, statistics: Mapping[str, Any], owned: Iterable[Partition]) -> None:
        """Take a report (see librdkafka's STATISTICS.md)."""
        waiting = [partition for partition in owned if _fetch_state(statistics, partition) in _NOT_BEGUN]
        self._reports = Counter({partition: self._reports[partition] + 1 for partition in waiting})

    def reassign_stalled(self, consumer: Consumer, owned: set[Partition]) -> list[Partition]:
        """Assign stalled partitions to the client once more and count from nothing for them; return them.

        Call it between two polls, not where the statistics come in: no rebalance is under way there.
        """
        counted_out = {partition for partition, reports in self._reports.items() if reports >= STALLED_AFTER_REPORTS}
        for partition in counted_out:
            del self._reports[partition]
        stalled = counted_out & owned
        if stalled:
            logger.warning("partitions were assigned and not fetched: assigned to the client anew", partitions=stalled)
            partitions = [TopicPartition(topic, number) for topic, number in stalled]
            # Nothing of them was received, so their committed offsets are still where to begin.
            consumer.incremental_unassign(partitions)
            consumer.incremental_assign(partitions)
        return list(stalled)


def _fetch_state(statistics: Mapping[str, Any], partition: Partition) -> str | None:
    topic, number = partition
    known = statistics.get("topics", {}).get(topic, {}).get("partitions", {})
    state: str | None = known.get(str(number), {}).get("fetch_state")
    return state


def any_broker_up(statistics: Mapping[str, Any]) -> bool:
    """Whether a report says of any broker that it is connected."""
    brokers = statistics.get("brokers")
    return isinstance(brokers, dict) and any(broker.get("state") == "UP" for broker in brokers.values())
