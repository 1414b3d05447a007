"""How partitions come to this member and leave it: librdkafka's rebalance callbacks, and what is owned between them."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import Consumer, TopicPartition

from worker.errors import FatalError
from worker.kafka.consume.commits import Committer
from worker.kafka.consume.offsets import Lease, Partition
from worker.kafka.consume.records import SourceListener

logger = structlog.get_logger()


class Rebalance:
    """The callbacks, which librdkafka calls on the consumer's thread, within a poll.

    ``tell`` has a method called on the loop; ``after_assign`` is called when partitions have come, ``after_unassign``
    when some have left, both there.
    """

    def __init__(
        self,
        listener: SourceListener,
        committer: Committer,
        *,
        revoke_timeout_s: float,
        tell: Callable[..., None],
        after_assign: Callable[[Consumer], None],
        after_unassign: Callable[[Sequence[Partition]], None],
    ) -> None:
        self._listener = listener
        self._committer = committer
        self._revoke_timeout_s = revoke_timeout_s
        self._tell = tell
        self._after_assign = after_assign
        self._after_unassign = after_unassign
        self._loop = asyncio.get_running_loop()
        self.leases: dict[Partition, Lease] = {}
        """Of each partition that is owned."""
        self.left: set[Partition] = set()
        """What has left since this was last cleared, whether it came back or not."""
        self.busy_until_s = 0.0
        """On the monotonic clock: until then a revoke may last. Any thread may read it."""

    @property
    def owned(self) -> set[Partition]:
        """The partitions of this member now."""
        return set(self.leases)

    def subscribe(self, consumer: Consumer, topic: str) -> None:
        """Join the group; the callbacks follow in later polls."""
        consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        keys = _keys(partitions)
        leases = {key: Lease() for key in keys}
        self.leases |= leases
        self._tell(self._listener.on_assigned, keys, leases)
        if not partitions:
            return
        consumer.incremental_assign(partitions)
        self._after_assign(consumer)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Give what is in flight its bounded time, commit, then give the partitions up.

        Meanwhile nothing is fetched of any partition, and no other commit is made; what is in flight of the others is
        worked on and published. Returning at once and unassigning later would not help: librdkafka allows it, but hands
        out no record of the partitions that stay until it is done.
        """
        if not partitions:
            return
        keys = _keys(partitions)
        self.busy_until_s = time.monotonic() + self._revoke_timeout_s
        finished = asyncio.run_coroutine_threadsafe(self._listener.on_revoked(keys), self._loop)
        try:
            self._committer.commit_revoked(consumer, finished.result(self._revoke_timeout_s))
        except TimeoutError:
            finished.cancel()
            logger.warning("in-flight queries of revoked partitions did not end in time", partitions=keys)
        except FatalError as error:
            self._tell(self._listener.on_fatal, error)
        self.busy_until_s = time.monotonic()
        self._unassign(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        self._tell(self._listener.on_lost, _keys(partitions))
        self._unassign(consumer, partitions)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        keys = _keys(partitions)
        # Here and not on the loop, which may be busy: from now on the partitions may have another owner.
        for key in keys:
            if (lease := self.leases.pop(key, None)) is not None:
                lease.end()
        self.left.update(keys)
        self._after_unassign(keys)
        consumer.incremental_unassign(partitions)


def _keys(partitions: Sequence[TopicPartition]) -> list[Partition]:
    return [(partition.topic, partition.partition) for partition in partitions]
