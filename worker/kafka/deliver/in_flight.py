"""What is in flight, in all and of each assigned partition, what must pause for it, and how much was poison.

Belongs to the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import structlog

from worker.errors import FatalError
from worker.kafka.consume.offsets import Lease, Partition, Position
from worker.kafka.consume.pauses import PauseSet
from worker.kafka.deliver.ordering import PublishOrder
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition, Watermark
from worker.settings import KafkaSettings
from worker.telemetry.health import PartitionProgress
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()


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
        self._unpublished_bytes = 0
        self._unpublished_mark = Watermark(kafka.max_unpublished_bytes)
        # Read when somebody looks: they change with every query.
        metrics.in_flight_queries.set_function(lambda: self._queries)
        metrics.in_flight_pairs.set_function(lambda: self._pairs)
        metrics.unpublished_bytes.set_function(lambda: self._unpublished_bytes)
        metrics.in_flight_queries_limit.set(kafka.max_in_flight)
        metrics.in_flight_pairs_limit.set(kafka.max_in_flight_pairs)
        metrics.unpublished_bytes_limit.set(kafka.max_unpublished_bytes)

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
        self._supersede(former, former.lease, "offsets_went_back")
        return self.assigned[position.topic_partition]

    def make_again(self, partition: Partition, lease: Lease) -> None:
        """Begin a new epoch of a partition if it is assigned, its topic having been made again."""
        if (former := self.assigned.get(partition)) is not None:
            self._supersede(former, lease, "topic_made_again")

    def _supersede(self, former: AssignedPartition, lease: Lease, reason: str) -> None:
        self._metrics.epochs.labels(reason=reason).inc()
        former.supersede()
        self._superseded = [each for each in self._superseded if each.tasks] + [former]
        self.assign(former.partition, lease)
        self.apply_backpressure()

    def unassign(self, partitions: Iterable[Partition]) -> dict[Partition, AssignedPartition]:
        """Forget these partitions; return those that were assigned."""
        return {key: self.assigned.pop(key) for key in partitions if key in self.assigned}

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks of all assigned partitions, and of what was in flight when one of them began again."""
        return {task for each in (*self.assigned.values(), *self._superseded) for task in each.tasks}

    def admit(self, pairs: int) -> "Permit":
        """Count one more query."""
        self.count(queries=1, pairs=pairs)
        return Permit(self, pairs)

    def count(self, *, queries: int = 0, pairs: int = 0, unpublished_bytes: int = 0) -> None:
        """Change the levels, the last one being outcomes that wait to be published; apply it if a mark is crossed."""
        self._queries += queries
        self._pairs += pairs
        self._unpublished_bytes += unpublished_bytes
        crossed = [
            self._queries_mark.update(self._queries),
            self._pairs_mark.update(self._pairs),
            self._unpublished_mark.update(self._unpublished_bytes),
        ]
        if any(crossed):
            self.apply_backpressure()

    @property
    def _why_all_paused(self) -> str | None:
        if self.draining:
            return "draining"
        if self._queries_mark.reached:
            return f"{self._queries} queries are in work"
        if self._pairs_mark.reached:
            return f"{self._pairs} pairs are in work"
        if self._unpublished_mark.reached:
            return f"{self._unpublished_bytes} bytes wait to be published"
        return None

    def apply_backpressure(self) -> None:
        """Tell the source, and the gauges, what must pause now: when that changes, and now and then all the same."""
        paused = frozenset(key for key, assigned in self.assigned.items() if assigned.why_paused is not None)
        everything = self._why_all_paused is not None
        # The whole state each time, not its changes: nothing can stay paused because a change was missed.
        self._pause(PauseSet(everything, paused))
        self._metrics.paused_partitions.set(len(self.assigned) if everything else len(paused))
        self._metrics.stopped_partitions.set(sum(each.why_stopped is not None for each in self.assigned.values()))

    def progress(self, *, now_s: float, unix_now_s: float) -> Sequence[PartitionProgress]:
        """Return how far each partition has come, and set what the metrics say of the oldest queries in work."""
        progress = tuple(assigned.progress(self._why_all_paused) for assigned in self.assigned.values())
        since_s = [each.oldest_since_s for each in progress if each.oldest_since_s is not None]
        self._metrics.oldest_in_flight_age_seconds.set(now_s - min(since_s) if since_s else 0.0)
        prefixes = [assigned.prefix for assigned in self.assigned.values()]
        produced_s = [each.oldest_produced_s for each in prefixes if each.oldest_produced_s is not None]
        self._metrics.oldest_event_age_seconds.set(max(0.0, unix_now_s - min(produced_s)) if produced_s else 0.0)
        self._metrics.completed_uncommitted_queries.set(sum(each.held_back for each in prefixes))
        return progress


class Permit:
    """Counts one query as in work, and then what its outcome holds in memory, until it is done with."""

    def __init__(self, in_flight: InFlight, pairs: int) -> None:
        self._in_flight = in_flight
        self._pairs = pairs
        self._bytes = 0
        self._made = False

    def made(self, size_bytes: int = 0) -> None:
        """Stop counting it as in work, its outcome being there; count these bytes instead. Once."""
        self._made = True
        self._bytes = size_bytes
        self._in_flight.count(queries=-1, pairs=-self._pairs, unpublished_bytes=size_bytes)

    def release(self) -> None:
        """Stop counting anything of it; a second call has no effect."""
        if not self._made:
            self.made()
        if self._bytes:
            self._in_flight.count(unpublished_bytes=-self._bytes)
            self._bytes = 0


def held_bytes(publication: Publication | None) -> int:
    """Return what an outcome holds in memory while it waits to be published, about."""
    if publication is None:
        return 0
    held = (publication.key, publication.value, *(part for header in publication.headers for part in header))
    return sum(len(part) for part in held if part is not None) + sum(map(held_bytes, publication.also))


class PoisonGuard:
    """Against a broken producer: when too much of a topic is poison, stop instead of draining it into dead letters.

    Counts the last events; poison is what can't be decoded. Belongs to the loop.
    """

    def __init__(self, *, limit: float, window: int) -> None:
        """``limit`` is the share of poison, 0 to 1, that is still borne among ``window`` events; 1 bears all."""
        self._limit = limit
        self._recent: deque[bool] = deque(maxlen=window)
        self._poison = 0

    def count(self, *, poison: bool) -> None:
        """Count one more event. FatalError once the window is full and holds more poison than is borne."""
        if len(self._recent) == self._recent.maxlen:
            self._poison -= self._recent[0]
        self._recent.append(poison)
        self._poison += poison
        if len(self._recent) == self._recent.maxlen and self._poison > self._limit * len(self._recent):
            raise FatalError(
                f"{self._poison} of the last {len(self._recent)} events were poison: see `rerank-worker dlq list`, and "
                "mend their producer; RERANK_WORKER_KAFKA__POISON_LIMIT=1 sets all poison aside without stopping"
            )
