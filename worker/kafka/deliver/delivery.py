"""Delivery: every record becomes a job, and its offset counts once the job's outcome is acknowledged.

Long: assign, take, revoke, drain, stop are one story. All state here belongs to the loop; ``prepare`` alone is called
elsewhere. Jobs run concurrently and end in any order; per partition only the completed prefix is committed. In-flight
marks pause the source before memory fills, whatever the backlog.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from worker.errors import FatalError
from worker.kafka.consume.offsets import CompletedPrefix, Lease, Partition, Position
from worker.kafka.consume.records import CANCEL_SHARE, FINISH_SHARE, NO_LEASES, Record, SourceListener
from worker.kafka.consume.source import Source
from worker.kafka.deliver.in_flight import InFlight, Permit, held_bytes
from worker.kafka.deliver.outcome import Guarantee, Job
from worker.kafka.deliver.partition import AssignedPartition
from worker.settings import KafkaSettings
from worker.telemetry.health import PartitionProgress
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()

# How old the progress shown may be. Not the cadence of commits, which may be minutes.
TICK_S = 1.0


class Delivery:
    """Consumes the query topic until stopped. Listens to the ``Source`` it owns."""

    def __init__(
        self,
        kafka: KafkaSettings,
        new_job: Callable[[Record], Job],
        new_guarantee: Callable[[Source], Guarantee],
        metrics: Metrics,
        *,
        new_source: Callable[[KafkaSettings, SourceListener], Source] = Source,
    ) -> None:
        self._kafka = kafka
        self._new_job = new_job
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._source = new_source(kafka, self)
        self._guarantee = new_guarantee(self._source)
        self._in_flight = InFlight(kafka, metrics, self._source.pause)
        self._progress: Sequence[PartitionProgress] = ()
        self._joined = False
        self._fatal: asyncio.Future[None] = self._loop.create_future()

    async def run(
        self,
        stop: asyncio.Event,
        *,
        before_joining: Callable[[], None] = lambda: None,
        before_closing: Callable[[], None] = lambda: None,
    ) -> bool:
        """Consume until ``stop`` is set, then drain; True if everything in flight was finished in time.

        Raises FatalError when the worker can't go on; what is finished by then is committed if the broker allows.
        ``before_joining`` is called when nothing is left to wait for, ``before_closing`` before what may take long.
        """
        await self._guarantee.start()
        before_joining()
        stopped = self._loop.create_task(stop.wait())
        self._source.start()
        try:
            commit_at_s = self._loop.time() + self._kafka.commit_interval_s
            while not stopped.done() and not self._fatal.done():
                ends: set[asyncio.Future[Any]] = {stopped, self._fatal}
                timeout_s = max(0.0, min(TICK_S, commit_at_s - self._loop.time()))
                await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                self._tick()
                if self._loop.time() >= commit_at_s or self._fatal.done():
                    commit_at_s = self._loop.time() + self._kafka.commit_interval_s
                    self._guarantee.commit(self._in_flight.assigned)
            if self._fatal.done():
                await self._fatal
            return await self._drain()
        finally:
            before_closing()
            stopped.cancel()
            _cancel(self._in_flight.tasks)
            await self._source.close()
            await self._guarantee.close()

    def prepare(self, records: Sequence[Record]) -> Callable[[], None]:
        """Make a job per record; see ``SourceListener``."""
        return partial(self._take, [(record, self._new_job(record)) for record in records])

    def _take(self, jobs: Sequence[tuple[Record, Job]]) -> None:
        if self._in_flight.draining or self._fatal.done():
            # Untracked, hence never committed: the next owner reads them again.
            return
        again = 0
        try:
            for record, job in jobs:
                assigned = self._in_flight.assigned.get(record.position.topic_partition)
                if assigned is None:
                    continue
                if assigned.prefix.has_passed(record.position):
                    again += 1
                else:
                    self._admit(record, job, assigned)
        except Exception as error:
            # The rest of the batch is not taken either: going on would commit past it.
            logger.exception("internal error")
            self.on_fatal(FatalError(f"records were not taken: {error!r}"))
        if again:
            logger.info("records came once more and were passed over", records=again)

    def _admit(self, record: Record, job: Job, assigned: AssignedPartition) -> None:
        if record.position.offset <= assigned.prefix.last_tracked:
            assigned = self._in_flight.begin_again(record.position)
        assigned.track(record, now_s=self._loop.time())
        permit = self._in_flight.admit(job.pairs)
        task = self._loop.create_task(self._work(job, record.position, assigned, permit))
        assigned.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            # A task that is cancelled before its first step never runs, so its permit is released here too.
            permit.release()
            assigned.end_task(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.on_fatal(error if isinstance(error, FatalError) else FatalError(f"a job broke: {error!r}"))

        task.add_done_callback(ended)

    async def _work(self, job: Job, position: Position, assigned: AssignedPartition, permit: Permit) -> None:
        publication = await job.run()
        # What waits to be published is bounded per partition instead, for one that is stuck must not starve the
        # others, and by its bytes in all.
        permit.made(held_bytes(publication))
        await self._guarantee.deliver(assigned, position, publication)

    def on_ends(self, ends: Sequence[Position]) -> None:
        """Let what is done with count up to the end of its partition; see ``SourceListener``."""
        if self._in_flight.draining or self._fatal.done():
            return
        for last in ends:
            assigned = self._in_flight.assigned.get(last.topic_partition)
            if assigned is not None:
                prefix = assigned.prefix
                if last.offset < prefix.last_tracked and not prefix.has_passed(last):
                    assigned = self._in_flight.begin_again(last)
                assigned.prefix.reach_end(last)

    def on_assigned(self, partitions: Sequence[Partition], leases: Mapping[Partition, Lease] = NO_LEASES) -> None:
        """Begin each partition with a new prefix; see ``SourceListener``."""
        self._joined = True
        for partition in partitions:
            self._in_flight.assign(partition, leases.get(partition))
        self._rebalanced("assigned", partitions)

    async def on_revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, CompletedPrefix]:
        """Give in-flight jobs their bounded time, cancel the rest; see ``SourceListener``."""
        leaving = self._in_flight.unassign(partitions)
        tasks = _tasks(leaving)
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._kafka.revoke_timeout_s * FINISH_SHARE)
        finally:
            # Cut off too: the partitions have left by then.
            _cancel(tasks)
        # What can't be taken back, a document being written, ends before the partition has another owner.
        if tasks:
            await asyncio.wait(tasks, timeout=self._kafka.revoke_timeout_s * CANCEL_SHARE)
        self._rebalanced("revoked", partitions)
        return await self._guarantee.revoke(leaving)

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        """Drop everything of these partitions at once; see ``SourceListener``."""
        leaving = self._in_flight.unassign(partitions)
        for assigned in leaving.values():
            assigned.prefix.end()
        _cancel(_tasks(leaving))
        self._rebalanced("lost", partitions)

    def on_made_again(self, leases: Mapping[Partition, Lease]) -> None:
        """Begin a new epoch of each partition; see ``SourceListener``."""
        for partition, lease in leases.items():
            self._in_flight.make_again(partition, lease)

    def on_commit(self, outcome: str) -> None:
        """Count the commit; see ``SourceListener``."""
        self._metrics.observe_commit(outcome)

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
        return len(self._in_flight.assigned)

    @property
    def why_stopped(self) -> str | None:
        """Which partition has stopped because its outcome can't be published, and why; None if none has."""
        for (topic, number), assigned in self._in_flight.assigned.items():
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
        self._in_flight.apply_backpressure()
        self._progress = self._in_flight.progress(now_s=self._loop.time(), unix_now_s=time.time())

    async def _drain(self) -> bool:
        self._in_flight.draining = True
        self._in_flight.apply_backpressure()
        unfinished = self._in_flight.tasks
        logger.info("draining", in_flight=len(unfinished))
        deadline_s = self._loop.time() + self._kafka.drain_timeout_s
        all_done = asyncio.gather(*unfinished, return_exceptions=True)
        while not all_done.done() and not self._fatal.done() and (left_s := deadline_s - self._loop.time()) > 0:
            self._tick()
            ends: set[asyncio.Future[Any]] = {all_done, self._fatal}
            await asyncio.wait(ends, timeout=min(left_s, TICK_S), return_when=asyncio.FIRST_COMPLETED)
        if not self._fatal.done():
            await self._guarantee.commit_final(self._in_flight.assigned)
        if self._fatal.done():
            await self._fatal
        left = sum(not task.done() for task in unfinished)
        logger.info("drained", unfinished=left)
        return not left

    def _rebalanced(self, kind: str, partitions: Sequence[Partition]) -> None:
        self._metrics.rebalances.labels(kind=kind).inc()
        self._metrics.assigned_partitions.set(len(self._in_flight.assigned))
        self._in_flight.apply_backpressure()
        logger.info("rebalanced", kind=kind, partitions=[f"{topic}-{number}" for topic, number in partitions])


def _tasks(partitions: Mapping[Partition, AssignedPartition]) -> set[asyncio.Task[None]]:
    return {task for assigned in partitions.values() for task in assigned.tasks}


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
