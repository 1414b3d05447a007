"""One partition while it is assigned to this process. A partition that comes back is another assignment."""

import asyncio
from collections.abc import Callable

import structlog

from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.in_flight import Valve
from worker.kafka.deliver.ordering import Ordering, PublishOrder
from worker.telemetry.progress import PartitionProgress

logger = structlog.get_logger()


class Assignment:
    """Its offsets, the tasks of its jobs, and why it takes nothing now, if so. Belongs to the loop."""

    def __init__(
        self, partition: Partition, *, max_pending: int, ordering: Ordering, on_change: Callable[[], None]
    ) -> None:
        self.partition = partition
        self.prefix = CompletedPrefix()
        self.tasks: set[asyncio.Task[None]] = set()
        self._on_change = on_change
        # One slow query holds back the commit of all behind it: without this mark their number, and with it the
        # duplicates after a crash and the outcomes that wait for their transaction, would have no bound.
        self._pending = Valve(max_pending)
        self._stuck: dict[Position, str] = {}
        self._order = PublishOrder(ordering)
        self._turns: dict[int, asyncio.Future[None]] = {}

    def track(self, record: Record, *, now_s: float) -> None:
        """Begin with a record."""
        self.prefix.track(record.position, now_s=now_s)
        self._order.admit(record.position.offset, record.key)
        self.measure()

    async def turn(self, position: Position) -> None:
        """Return when the outcome of this offset may be published, as the ordering has it."""
        if not self._order.made(position.offset):
            self._turns[position.offset] = turn = asyncio.get_running_loop().create_future()
            await turn

    def complete(self, position: Position) -> None:
        """Mark an offset's outcome as done with; see ``CompletedPrefix.complete``."""
        self.prefix.complete(position)
        self.measure()
        follower = self._order.published(position.offset)
        if follower is not None and not self._turns[follower].done():
            self._turns.pop(follower).set_result(None)
        self._on_change()

    def measure(self) -> None:
        """Compare with the mark what is not done with: unfinished offsets, or outcomes that don't count yet."""
        self._pending.update(max(self.prefix.pending, len(self.tasks)))

    def stop(self, position: Position, why: str) -> None:
        """Take nothing more while the outcome of this offset can't be published."""
        if not self._stuck:
            topic, number = self.partition
            logger.error("partition stopped", topic=topic, partition=number, offset=position.offset, reason=why)
        self._stuck[position] = why
        self._on_change()

    def go_on(self, position: Position) -> None:
        """Forget that this offset's outcome could not be published."""
        if self._stuck.pop(position, None) is None:
            return
        if not self._stuck:
            topic, number = self.partition
            logger.info("partition goes on", topic=topic, partition=number)
        self._on_change()

    @property
    def why_stopped(self) -> str | None:
        """What its topic said of the oldest outcome that can't be published."""
        return next(iter(self._stuck.values()), None)

    @property
    def why_paused(self) -> str | None:
        """Why nothing of this partition should be fetched now."""
        if self.why_stopped is not None:
            return self.why_stopped
        if self._pending.closed:
            return f"{max(self.prefix.pending, len(self.tasks))} queries wait for the oldest one's outcome"
        return None

    def progress(self, paused: str | None) -> PartitionProgress:
        """Return a snapshot; ``paused`` is why the worker takes nothing at all, if so."""
        topic, number = self.partition
        committed = self.prefix.committed
        return PartitionProgress(
            topic=topic,
            partition=number,
            in_flight=len(self.tasks),
            uncommitted=self.prefix.pending,
            committed_offset=None if committed is None else committed.offset + 1,
            oldest_since_s=self.prefix.oldest_since_s,
            paused=self.why_paused or paused,
        )

    def cancel(self) -> None:
        """Cancel every task: what they have not finished is left to the next owner."""
        for task in self.tasks:
            task.cancel()
