"""What is in flight, in all and of each assigned partition, and what must pause for it. Belongs to the loop."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from worker.kafka.consume.offsets import CompletedPrefix, Lease, Partition, Position
from worker.kafka.consume.pauses import PauseSet
from worker.kafka.consume.records import Record
from worker.kafka.deliver.ordering import PublishOrder
from worker.settings import KafkaSettings
from worker.telemetry.health import PartitionProgress
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()


class Watermark:
    """Reached at the high mark, and until the level is down to half of it.

    The gap is what debounces: each pause throws librdkafka's prefetched records away (getsentry/snuba#4774).
    """

    def __init__(self, high: int) -> None:
        self._high = high
        self.reached = False

    def update(self, level: int) -> None:
        """Take the present level."""
        if level >= self._high:
            self.reached = True
        elif level <= self._high // 2:
            self.reached = False


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
        self.prefix.track(record.position, now_s=now_s)
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
        self._on_change()

    def end_task(self, task: asyncio.Task[None]) -> None:
        """Take note that a job and its delivery have ended, however they did."""
        self.tasks.discard(task)
        self._update_pending()
        self._on_change()

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
        self._pending.update(self._not_done_with)

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


class InFlight:
    """The assigned partitions, and how many queries whose outcome is not made yet there are, with their pairs."""

    def __init__(self, kafka: KafkaSettings, metrics: Metrics, pause: Callable[[PauseSet], None]) -> None:
        self._kafka = kafka
        self._metrics = metrics
        self._pause = pause
        self.assigned: dict[Partition, AssignedPartition] = {}
        self._superseded: list[AssignedPartition] = []
        self.draining = False
        self._queries = 0
        self._pairs = 0
        self._queries_mark = Watermark(kafka.max_in_flight)
        self._pairs_mark = Watermark(kafka.max_in_flight_pairs)

    def assign(self, partition: Partition, lease: Lease | None = None) -> None:
        """Begin a partition with a new prefix, which ends with its lease."""
        # A transaction publishes in the order of offsets, which keeps every order there is.
        ordered = self._kafka.ordering != "none" and self._kafka.delivery_guarantee != "exactly_once"
        self.assigned[partition] = AssignedPartition(
            partition,
            max_pending=self._kafka.max_in_flight,
            order=PublishOrder(self._kafka.ordering) if ordered else None,
            on_change=self.apply_backpressure,
            lease=lease,
        )

    def begin_again(self, position: Position) -> AssignedPartition:
        """Begin a new epoch of an assigned partition, whose offsets have gone back to this; return it."""
        former = self.assigned[position.topic_partition]
        logger.warning(
            "the offsets of a partition went back: its topic was made anew or its log truncated",
            topic=position.topic,
            partition=position.partition,
            offset=position.offset,
            in_flight=len(former.tasks),
        )
        former.supersede()
        self._superseded = [each for each in self._superseded if each.tasks] + [former]
        self.assign(position.topic_partition, former.lease)
        return self.assigned[position.topic_partition]

    def unassign(self, partitions: Iterable[Partition]) -> dict[Partition, AssignedPartition]:
        """Forget these partitions; return those that were assigned."""
        return {key: self.assigned.pop(key) for key in partitions if key in self.assigned}

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks of all assigned partitions, and of what was in flight when one of them began again."""
        return {task for each in (*self.assigned.values(), *self._superseded) for task in each.tasks}

    def admit(self, pairs: int) -> "Permit":
        """Count one more query. Call ``apply_backpressure`` after the last of a batch."""
        self.count(1, pairs)
        return Permit(self, pairs)

    def count(self, queries: int, pairs: int) -> None:
        """Change the levels."""
        self._queries += queries
        self._pairs += pairs
        self._queries_mark.update(self._queries)
        self._pairs_mark.update(self._pairs)

    @property
    def _why_all_paused(self) -> str | None:
        if self.draining:
            return "draining"
        if self._queries_mark.reached:
            return f"{self._queries} queries are in work"
        if self._pairs_mark.reached:
            return f"{self._pairs} pairs are in work"
        return None

    def apply_backpressure(self) -> None:
        """Tell the source what must pause now, and the gauges what is in flight."""
        paused = frozenset(key for key, assigned in self.assigned.items() if assigned.why_paused is not None)
        everything = self._why_all_paused is not None
        # The whole state each time, not its changes: nothing can stay paused because a change was missed.
        self._pause(PauseSet(everything, paused))
        self._metrics.in_flight_queries.set(self._queries)
        self._metrics.in_flight_pairs.set(self._pairs)
        self._metrics.paused_partitions.set(len(self.assigned) if everything else len(paused))
        self._metrics.stopped_partitions.set(sum(each.why_stopped is not None for each in self.assigned.values()))

    def progress(self, *, now_s: float) -> Sequence[PartitionProgress]:
        """Return how far each partition has come, and set the age of the oldest query in work."""
        progress = tuple(assigned.progress(self._why_all_paused) for assigned in self.assigned.values())
        since_s = [each.oldest_since_s for each in progress if each.oldest_since_s is not None]
        self._metrics.oldest_in_flight_age_seconds.set(now_s - min(since_s) if since_s else 0.0)
        return progress


class Permit:
    """Counts one query as in work until it is released."""

    def __init__(self, in_flight: InFlight, pairs: int) -> None:
        self._in_flight = in_flight
        self._pairs = pairs
        self._released = False

    def release(self) -> None:
        """Stop counting it; a second call has no effect."""
        if not self._released:
            self._released = True
            self._in_flight.count(-1, -self._pairs)
            self._in_flight.apply_backpressure()
