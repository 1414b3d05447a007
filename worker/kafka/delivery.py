"""Delivery: every record becomes a job, and its offset counts once the job's outcome is acknowledged.

All state here belongs to the loop. Jobs run concurrently and end in any order; per partition only the completed
prefix is committed. In-flight marks pause the source before memory fills, whatever the backlog.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from worker.errors import FatalError
from worker.kafka.commits import Partition
from worker.kafka.offsets import CompletedPrefix
from worker.kafka.records import Position, Record
from worker.kafka.source import Source, SourceListener
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()


class Job(Protocol):
    """The work of one record."""

    @property
    def pairs(self) -> int:
        """(query, document) pairs it may put in flight: its weight for backpressure."""
        ...

    async def run(self) -> None:
        """Return when the outcome is acknowledged by the broker; FatalError is all it may raise."""
        ...


@dataclass(slots=True)
class _Assigned:
    prefix: CompletedPrefix = field(default_factory=CompletedPrefix)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Delivery:
    """Consumes the query topic until stopped. Listens to the ``Source`` it owns."""

    def __init__(
        self,
        kafka: KafkaSettings,
        new_job: Callable[[Record], Job],
        metrics: Metrics,
        *,
        on_turn: Callable[[], None] = lambda: None,
        new_source: Callable[[KafkaSettings, SourceListener], Source] = Source,
    ) -> None:
        self._kafka = kafka
        self._new_job = new_job
        self._metrics = metrics
        self._on_turn = on_turn
        self._loop = asyncio.get_running_loop()
        self._source = new_source(kafka, self)
        self._assigned: dict[Partition, _Assigned] = {}
        self._in_flight = 0
        self._in_flight_pairs = 0
        self._joined = False
        self._paused = False
        self._draining = False
        self._fatal: asyncio.Future[None] = self._loop.create_future()

    async def run(self, stop: asyncio.Event) -> bool:
        """Consume until ``stop`` is set, then drain; True if everything in flight was finished in time.

        Raises FatalError when the worker can't go on; what is finished by then is committed if the broker allows.
        """
        stopped = self._loop.create_task(stop.wait())
        self._source.start()
        try:
            while not stopped.done() and not self._fatal.done():
                ends: set[asyncio.Future[Any]] = {stopped, self._fatal}
                await asyncio.wait(ends, timeout=self._kafka.commit_interval_s, return_when=asyncio.FIRST_COMPLETED)
                self._on_turn()
                self._source.commit(self._uncommitted())
            if self._fatal.done():
                await self._fatal
            return await self._drain()
        finally:
            stopped.cancel()
            self._cancel(self._assigned.values())
            await self._source.close()

    def on_records(self, records: Sequence[Record]) -> None:
        """Start a job per record; see ``SourceListener``."""
        if self._draining:
            # Untracked, hence never committed: the next owner reads them again.
            return
        for record in records:
            assigned = self._assigned.get(record.position.topic_partition)
            if assigned is not None:
                self._admit(record, assigned)
        self._apply_backpressure()

    def on_assigned(self, partitions: Sequence[Partition]) -> None:
        """Begin each partition with a new prefix; see ``SourceListener``."""
        self._joined = True
        for partition in partitions:
            self._assigned[partition] = _Assigned()
        self._rebalanced("assigned", partitions)

    async def on_revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, CompletedPrefix]:
        """Give in-flight jobs their bounded time, cancel the rest; see ``SourceListener``."""
        leaving = {key: self._assigned.pop(key) for key in partitions if key in self._assigned}
        tasks = {task for assigned in leaving.values() for task in assigned.tasks}
        if tasks:
            await asyncio.wait(tasks, timeout=self._kafka.revoke_timeout_s)
        self._cancel(leaving.values())
        self._rebalanced("revoked", partitions)
        return {key: assigned.prefix for key, assigned in leaving.items()}

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        """Drop everything of these partitions at once; see ``SourceListener``."""
        leaving = [self._assigned.pop(key) for key in partitions if key in self._assigned]
        for assigned in leaving:
            assigned.prefix.end()
        self._cancel(leaving)
        self._rebalanced("lost", partitions)

    def on_statistics(self, statistics: Mapping[str, object]) -> None:
        """Publish the consumer lag; see ``SourceListener``."""
        self._metrics.observe_statistics(statistics)

    def on_fatal(self, error: FatalError) -> None:
        """End ``run`` with this error; see ``SourceListener``."""
        if not self._fatal.done():
            self._fatal.set_exception(error)

    @property
    def joined(self) -> bool:
        """Whether the group has taken this member in, with partitions or idle."""
        return self._joined

    @property
    def assigned_partitions(self) -> int:
        """How many partitions this process owns now."""
        return len(self._assigned)

    @property
    def source(self) -> Source:
        """The consumer, for its heartbeat."""
        return self._source

    def _admit(self, record: Record, assigned: _Assigned) -> None:
        assigned.prefix.track(record.position, now_s=self._loop.time())
        job = self._new_job(record)
        self._count(1, job.pairs)
        task = self._loop.create_task(self._finish(job, record.position, assigned.prefix))
        assigned.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            assigned.tasks.discard(task)
            self._count(-1, -job.pairs)
            self._apply_backpressure()
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.on_fatal(error if isinstance(error, FatalError) else FatalError(f"a job broke: {error!r}"))

        task.add_done_callback(ended)

    async def _finish(self, job: Job, position: Position, prefix: CompletedPrefix) -> None:
        await job.run()
        prefix.complete(position)

    def _count(self, queries: int, pairs: int) -> None:
        self._in_flight += queries
        self._in_flight_pairs += pairs
        self._metrics.in_flight_queries.set(self._in_flight)
        self._metrics.in_flight_pairs.set(self._in_flight_pairs)

    def _apply_backpressure(self) -> None:
        high = self._in_flight >= self._kafka.max_in_flight or self._in_flight_pairs >= self._kafka.max_in_flight_pairs
        # Half the mark is the hysteresis: each pause throws librdkafka's prefetched records away.
        low = (
            self._in_flight <= self._kafka.max_in_flight // 2
            and self._in_flight_pairs <= self._kafka.max_in_flight_pairs // 2
        )
        if high and not self._paused:
            self._paused = True
            self._source.pause()
        elif low and self._paused and not self._draining:
            self._paused = False
            self._source.resume()
        self._metrics.paused_partitions.set(len(self._assigned) if self._paused else 0)

    def _uncommitted(self) -> dict[Partition, CompletedPrefix]:
        return {key: a.prefix for key, a in self._assigned.items() if a.prefix.to_commit is not None}

    async def _drain(self) -> bool:
        self._draining = True
        self._source.pause()
        tasks = {task for assigned in self._assigned.values() for task in assigned.tasks}
        logger.info("draining", in_flight=len(tasks))
        unfinished: set[asyncio.Task[None]] = set()
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=self._kafka.drain_timeout_s)
        await self._source.commit_now(self._uncommitted())
        logger.info("drained", unfinished=len(unfinished))
        return not unfinished

    def _cancel(self, partitions: Iterable[_Assigned]) -> None:
        for assigned in partitions:
            for task in assigned.tasks:
                task.cancel()

    def _rebalanced(self, kind: str, partitions: Sequence[Partition]) -> None:
        self._metrics.rebalances.labels(kind=kind).inc()
        self._metrics.assigned_partitions.set(len(self._assigned))
        logger.info("rebalanced", kind=kind, partitions=[f"{topic}-{number}" for topic, number in partitions])
