"""One assigned partition: its offsets, the tasks of its jobs, and what holds it up. Belongs to the loop."""

import asyncio
from collections.abc import Callable

import structlog

from worker.kafka.consume.offsets import CompletedPrefix, Lease, Partition, Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.ordering import PublishOrder
from worker.telemetry.health import PartitionProgress

logger = structlog.get_logger()


class Watermark:
    """Reached at the high mark, and until the level is down to half of it.

    The gap is what debounces: each pause throws librdkafka's prefetched records away (getsentry/snuba#4774).
    """

    def __init__(self, high: int) -> None:
        self._high = high
        self.reached = False

    def update(self, level: int) -> bool:
        """Take the present level; return whether that crossed a mark."""
        before = self.reached
        if level >= self._high:
            self.reached = True
        elif level <= self._high // 2:
            self.reached = False
        return self.reached is not before


class AssignedPartition:
    """One epoch of a partition that is assigned to this process; one that comes back or begins again is another object.

    Its offsets, the tasks of its jobs, and why it takes nothing now, if so.
    """

    def __init__(
        self,
        partition: Partition,
        *,
        max_pending: int,
        order: PublishOrder | None,
        on_change: Callable[[], None],
        lease: Lease | None = None,
    ) -> None:
        self.partition = partition
        self.lease = Lease() if lease is None else lease
        self.prefix = CompletedPrefix(self.lease)
        self.superseded = False
        """Whether its offsets have begun again in another object: outcomes still go out, no offset counts any more."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._on_change = on_change
        # One slow query holds back the commit of all behind it: without this mark their number, and with it the
        # duplicates after a crash and the outcomes that wait for their transaction, would have no bound.
        self._pending = Watermark(max_pending)
        self._unpublishable: dict[Position, str] = {}
        self._order = order
        self._waiting_to_publish: dict[int, asyncio.Future[None]] = {}

    def track(self, record: Record, *, now_s: float) -> None:
        """Begin with a record."""
        self.prefix.track(record.position, now_s=now_s, produced_s=record.timestamp_s)
        if self._order is not None:
            self._order.admit(record.position.offset, record.key)
        self._update_pending()

    async def await_publish_order(self, position: Position) -> None:
        """Return when the outcome of this offset may be published, as the ordering has it; at once without one."""
        if self._order is not None and not self._order.made(position.offset):
            self._waiting_to_publish[position.offset] = waiting = asyncio.get_running_loop().create_future()
            await waiting

    def complete(self, position: Position) -> None:
        """Mark an offset's outcome as done with; see ``CompletedPrefix.complete``."""
        self.prefix.complete(position)
        self._update_pending()
        follower = None if self._order is None else self._order.published(position.offset)
        if follower is not None and not self._waiting_to_publish[follower].done():
            self._waiting_to_publish.pop(follower).set_result(None)

    def end_task(self, task: asyncio.Task[None]) -> None:
        """Take note that a job and its delivery have ended, however they did."""
        self.tasks.discard(task)
        self._update_pending()

    def stop(self, position: Position, why: str) -> None:
        """Take nothing more while the outcome of this offset can't be published."""
        if not self._unpublishable:
            topic, number = self.partition
            logger.error("partition stopped", topic=topic, partition=number, offset=position.offset, reason=why)
        self._unpublishable[position] = why
        self._on_change()

    def go_on(self, position: Position) -> None:
        """Forget that this offset's outcome could not be published."""
        if self._unpublishable.pop(position, None) is None:
            return
        if not self._unpublishable:
            topic, number = self.partition
            logger.info("partition goes on", topic=topic, partition=number)
        self._on_change()

    @property
    def why_stopped(self) -> str | None:
        """What its topic said of the oldest outcome that can't be published."""
        return next(iter(self._unpublishable.values()), None)

    @property
    def why_paused(self) -> str | None:
        """Why nothing of this partition should be fetched now."""
        if self.why_stopped is not None:
            return self.why_stopped
        if self._pending.reached:
            return f"{self._not_done_with} queries wait for the oldest one's outcome"
        return None

    @property
    def _not_done_with(self) -> int:
        # Unfinished offsets, or outcomes that don't count yet.
        return max(self.prefix.pending, len(self.tasks))

    def _update_pending(self) -> None:
        if self._pending.update(self._not_done_with):
            self._on_change()

    def progress(self, why_all_paused: str | None) -> PartitionProgress:
        """Return a snapshot; ``why_all_paused`` is why the worker takes nothing at all, if so."""
        topic, number = self.partition
        committed = self.prefix.committed
        return PartitionProgress(
            topic=topic,
            partition=number,
            in_flight=len(self.tasks),
            uncommitted=self.prefix.pending,
            committed_offset=None if committed is None else committed.offset + 1,
            oldest_since_s=self.prefix.oldest_since_s,
            paused=self.why_paused or why_all_paused,
        )

    def supersede(self) -> None:
        """End the epoch, its offsets having begun again.

        What is in flight is answered all the same: its records may not be there any more, and nobody else would.
        """
        self.superseded = True
        self.prefix.end()
