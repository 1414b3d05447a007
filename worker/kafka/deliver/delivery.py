"""Delivery: every record becomes a job, and its offset counts once the job's outcome is acknowledged.

All state here belongs to the loop. Jobs run concurrently and end in any order; per partition only the completed
prefix is committed. In-flight marks pause the source before memory fills, whatever the backlog.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from worker.errors import FatalError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.pauses import PauseSet
from worker.kafka.consume.records import FINISH_SHARE, Record, SourceListener
from worker.kafka.consume.source import Source
from worker.kafka.deliver.guarantee import Guarantee
from worker.kafka.deliver.in_flight import Intake, Ticket
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import Assignment
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics
from worker.telemetry.progress import PartitionProgress

logger = structlog.get_logger()


class Job(Protocol):
    """The work of one record."""

    @property
    def pairs(self) -> int:
        """(query, document) pairs it may put in flight: its weight for backpressure."""
        ...

    async def run(self) -> Publication:
        """Return the outcome, to be published by the caller; FatalError is all it may raise."""
        ...


class Delivery:
    """Consumes the query topic until stopped. Listens to the ``Source`` it owns."""

    def __init__(
        self,
        kafka: KafkaSettings,
        new_job: Callable[[Record], Job],
        new_guarantee: Callable[[Source], Guarantee],
        metrics: Metrics,
        *,
        on_tick: Callable[[], None] = lambda: None,
        new_source: Callable[[KafkaSettings, SourceListener], Source] = Source,
    ) -> None:
        self._kafka = kafka
        self._new_job = new_job
        self._metrics = metrics
        self._on_tick = on_tick
        self._loop = asyncio.get_running_loop()
        self._source = new_source(kafka, self)
        self._guarantee = new_guarantee(self._source)
        self._assigned: dict[Partition, Assignment] = {}
        self._intake = Intake(kafka)
        self._progress: Sequence[PartitionProgress] = ()
        self._joined = False
        self._draining = False
        self._fatal: asyncio.Future[None] = self._loop.create_future()

    async def run(self, stop: asyncio.Event) -> bool:
        """Consume until ``stop`` is set, then drain; True if everything in flight was finished in time.

        Raises FatalError when the worker can't go on; what is finished by then is committed if the broker allows.
        """
        await self._guarantee.start()
        stopped = self._loop.create_task(stop.wait())
        self._source.start()
        try:
            while not stopped.done() and not self._fatal.done():
                ends: set[asyncio.Future[Any]] = {stopped, self._fatal}
                await asyncio.wait(ends, timeout=self._kafka.commit_interval_s, return_when=asyncio.FIRST_COMPLETED)
                self._tick()
                self._guarantee.commit(self._assigned)
            if self._fatal.done():
                await self._fatal
            return await self._drain()
        finally:
            stopped.cancel()
            self._cancel(self._assigned.values())
            await self._source.close()
            await self._guarantee.close()

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
            self._assigned[partition] = Assignment(
                partition,
                max_pending=self._kafka.max_in_flight,
                # A transaction publishes in the order of offsets, which keeps every order there is.
                ordering="none" if self._kafka.delivery_guarantee == "exactly_once" else self._kafka.ordering,
                on_change=self._apply_backpressure,
            )
        self._rebalanced("assigned", partitions)

    async def on_revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, CompletedPrefix]:
        """Give in-flight jobs their bounded time, cancel the rest; see ``SourceListener``."""
        leaving = {key: self._assigned.pop(key) for key in partitions if key in self._assigned}
        tasks = {task for assigned in leaving.values() for task in assigned.tasks}
        if tasks:
            await asyncio.wait(tasks, timeout=self._kafka.revoke_timeout_s * FINISH_SHARE)
        self._cancel(leaving.values())
        self._rebalanced("revoked", partitions)
        return await self._guarantee.let_go(leaving)

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
    def why_stopped(self) -> str | None:
        """Which partition has stopped because its outcome can't be published, and why; None if none has."""
        for (topic, number), assigned in self._assigned.items():
            if assigned.why_stopped is not None:
                return f"{topic}-{number} has stopped: {assigned.why_stopped}"
        return None

    @property
    def source(self) -> Source:
        """The consumer, for its heartbeat."""
        return self._source

    @property
    def progress(self) -> Sequence[PartitionProgress]:
        """How far each partition has come, as of the last tick; any thread may read it."""
        return self._progress

    def _tick(self) -> None:
        self._on_tick()
        self._apply_backpressure()
        paused = "draining" if self._draining else self._intake.why_closed
        self._progress = tuple(assigned.progress(paused) for assigned in self._assigned.values())
        since_s = [p.oldest_since_s for p in self._progress if p.oldest_since_s is not None]
        self._metrics.watermark_age_seconds.set(self._loop.time() - min(since_s) if since_s else 0.0)

    def _admit(self, record: Record, assigned: Assignment) -> None:
        assigned.track(record, now_s=self._loop.time())
        job = self._new_job(record)
        ticket = self._intake.enter(job.pairs)
        task = self._loop.create_task(self._finish(job, record.position, assigned, ticket))
        assigned.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            assigned.tasks.discard(task)
            assigned.measure()
            # A task that is cancelled before its first step never runs, so its ticket is given back here too.
            ticket.leave()
            self._apply_backpressure()
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.on_fatal(error if isinstance(error, FatalError) else FatalError(f"a job broke: {error!r}"))

        task.add_done_callback(ended)

    async def _finish(self, job: Job, position: Position, assigned: Assignment, ticket: Ticket) -> None:
        publication = await job.run()
        # What waits to be published is bounded per partition instead: one that is stuck must not starve the others.
        ticket.leave()
        self._apply_backpressure()
        await self._guarantee.deliver(assigned, position, publication)

    def _apply_backpressure(self) -> None:
        held = frozenset(key for key, assigned in self._assigned.items() if assigned.why_paused is not None)
        everything = self._draining or self._intake.why_closed is not None
        # The whole state each time, not its changes: nothing can stay paused because a change was missed.
        self._source.pause(PauseSet(everything, held))
        self._metrics.in_flight_queries.set(self._intake.queries)
        self._metrics.in_flight_pairs.set(self._intake.pairs)
        self._metrics.paused_partitions.set(len(self._assigned) if everything else len(held))
        self._metrics.stopped_partitions.set(sum(a.why_stopped is not None for a in self._assigned.values()))

    async def _drain(self) -> bool:
        self._draining = True
        self._apply_backpressure()
        tasks = {task for assigned in self._assigned.values() for task in assigned.tasks}
        logger.info("draining", in_flight=len(tasks))
        deadline_s = self._loop.time() + self._kafka.drain_timeout_s
        unfinished = tasks
        while unfinished and (left_s := deadline_s - self._loop.time()) > 0:
            self._tick()
            _, unfinished = await asyncio.wait(unfinished, timeout=min(left_s, self._kafka.commit_interval_s))
        await self._guarantee.finish(self._assigned)
        logger.info("drained", unfinished=len(unfinished))
        return not unfinished

    def _cancel(self, partitions: Iterable[Assignment]) -> None:
        for assigned in partitions:
            assigned.cancel()

    def _rebalanced(self, kind: str, partitions: Sequence[Partition]) -> None:
        self._metrics.rebalances.labels(kind=kind).inc()
        self._metrics.assigned_partitions.set(len(self._assigned))
        logger.info("rebalanced", kind=kind, partitions=[f"{topic}-{number}" for topic, number in partitions])
