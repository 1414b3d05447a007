"""What delivery promises of offsets, backpressure and endings, with jobs that end when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from tests.patience import HANG_S
from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.kafka.consume.offsets import CompletedPrefix, Lease, LogId, Partition, Position
from worker.kafka.consume.pauses import PauseSet
from worker.kafka.consume.records import Record, SourceListener
from worker.kafka.deliver import delivery as delivery_module
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.deliver.outcome import Job, Publication
from worker.kafka.publish.at_least_once import AtLeastOnce
from worker.kafka.publish.guarantees import publish_policy
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics

P0, P1 = ("queries", 0), ("queries", 1)


class FakeSource:
    """Stands where the consumer does: remembers what was asked of it, commits at once."""

    def __init__(self, kafka: KafkaSettings, listener: SourceListener) -> None:
        self.listener = listener
        self.held = PauseSet()
        self.holds: list[PauseSet] = []
        self.commits: list[dict[Partition, int]] = []
        self.closed = False

    def start(self) -> None:
        self.listener.on_assigned([P0, P1])

    def feed(self, records: Sequence[Record]) -> None:
        """As the consumer's thread does."""
        try:
            take = self.listener.prepare(records)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.listener.on_fatal(FatalError(repr(error)))
        else:
            take()

    @property
    def paused(self) -> bool:
        return self.held.everything

    def pause(self, to_pause: PauseSet) -> None:
        if to_pause != self.held:
            self.holds.append(to_pause)
        self.held = to_pause

    def commit(self, prefixes: Mapping[Partition, CompletedPrefix]) -> None:
        committed = {}
        for partition, prefix in prefixes.items():
            position = prefix.to_commit
            if position is not None and not prefix.ended:
                committed[partition] = position.offset + 1
                prefix.mark_committed(position)
        if committed:
            self.commits.append(committed)

    async def commit_now(self, prefixes: Mapping[Partition, CompletedPrefix]) -> None:
        self.commit(prefixes)

    async def close(self) -> None:
        self.closed = True


class FakeSink:
    """Takes every record, but for those of a topic it has been told to refuse."""

    def __init__(self) -> None:
        self.published: list[Publication] = []
        self.refuse: dict[str, WorkerError] = {}
        self.closed = False

    def start(self) -> None: ...

    async def publish(self, publication: Publication) -> None:
        if error := self.refuse.get(publication.topic):
            raise error
        self.published.append(publication)

    async def close(self) -> None:
        self.closed = True


class Answer(Publication):
    def refused(self, error: PoisonError) -> list[Publication]:
        return [Publication("dlq", None, b"dead", ())]


@dataclass
class FakeJob:
    """Ends when ``finish`` is called."""

    pairs: int = 10
    _end: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    started: bool = False
    cancelled: bool = False
    irrevocable: asyncio.Event | None = None
    """What it waits for when it is cancelled: it can't take back what it has begun."""
    ended: bool = False

    async def run(self) -> Publication:
        self.started = True
        try:
            await self._end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            if self.irrevocable is not None:
                await self.irrevocable.wait()
            self.ended = True
            raise
        if self.error:
            raise self.error
        return Answer("answers", None, b"answer", ())

    def finish(self, error: Exception | None = None) -> None:
        self.error = error
        self._end.set()


@dataclass
class Bench:
    delivery: Delivery
    source: FakeSource
    sink: FakeSink
    stop: asyncio.Event
    jobs: dict[tuple[int, int], FakeJob]
    run: "asyncio.Task[bool]"
    metrics: Metrics

    def feed(self, partition: int, *offsets: int, leader_epoch: int | None = None) -> None:
        self.source.feed([a_record(partition, offset, leader_epoch) for offset in offsets])

    async def committed(self, partition: Partition) -> int | None:
        """The partition's committed offset after the next cadence."""
        commits = len(self.source.commits)
        for _ in range(200):
            await asyncio.sleep(0.005)
            if len(self.source.commits) > commits:
                break
        merged = {key: offset for commit in self.source.commits for key, offset in commit.items()}
        return merged.get(partition)


async def begun(job: FakeJob) -> bool:
    """Whether a job runs: its task, if it has one, takes its first step in the loop's next turn."""
    await asyncio.sleep(0)
    return job.started


def a_record(partition: int, offset: int, leader_epoch: int | None = None) -> Record:
    return Record(Position("queries", partition, offset, leader_epoch), None, b"{}", (), 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def a_bench(**kafka: object) -> AsyncIterator[Bench]:
    jobs: dict[tuple[int, int], FakeJob] = {}

    def new_job(record: Record) -> FakeJob:
        return jobs.setdefault((record.position.partition, record.position.offset), FakeJob())

    settings = KafkaSettings.model_validate(
        {"commit_interval_s": 0.01, "revoke_timeout_s": 0.2, "publish_retry_max_s": 0.02, **kafka}
    )
    sink = FakeSink()
    metrics = Metrics(CollectorRegistry())
    delivery = Delivery(
        settings,
        new_job,
        lambda source: AtLeastOnce(source, sink, publish_policy(settings)),  # type: ignore[arg-type]  # a fake producer
        metrics,
        new_source=FakeSource,  # type: ignore[arg-type]  # stands in for Source
    )
    stop = asyncio.Event()
    run = asyncio.create_task(delivery.run(stop))
    await until(lambda: delivery.assigned_partitions == 2)
    source = delivery.source
    assert isinstance(source, FakeSource)
    try:
        yield Bench(delivery, source, sink, stop, jobs, run, metrics)
    finally:
        stop.set()
        for job in jobs.values():
            job.finish(job.error)
        await asyncio.gather(run, return_exceptions=True)
        assert source.closed
        assert sink.closed


async def test_only_the_completed_prefix_is_committed() -> None:
    async with a_bench() as bench:
        bench.feed(0, 0, 1, 2)
        bench.jobs[0, 1].finish()
        bench.jobs[0, 2].finish()
        bench.feed(1, 0)
        bench.jobs[1, 0].finish()
        assert await bench.committed(P1) == 1
        assert await bench.committed(P0) is None

        bench.jobs[0, 0].finish()
        assert await bench.committed(P0) == 3


async def test_intake_pauses_at_the_high_mark_and_resumes_at_half_of_it() -> None:
    async with a_bench(max_in_flight=4) as bench:
        bench.feed(0, 0, 1)
        bench.feed(1, 0)
        assert not bench.source.paused
        bench.feed(1, 1)
        assert bench.source.paused

        bench.jobs[0, 0].finish()
        await bench.committed(P0)
        assert bench.source.paused
        bench.jobs[0, 1].finish()
        await until(lambda: not bench.source.paused)
        assert bench.source.holds == [PauseSet(everything=True), PauseSet()]


async def test_pairs_count_towards_backpressure_too() -> None:
    async with a_bench(max_in_flight_pairs=15) as bench:
        bench.feed(0, 0)
        assert not bench.source.paused
        bench.feed(0, 1)
        assert bench.source.paused


async def test_a_revoked_partition_waits_for_its_jobs_and_hands_over_their_prefix() -> None:
    async with a_bench(revoke_timeout_s=5) as bench:
        bench.feed(0, 0, 1)
        revoked = asyncio.create_task(bench.delivery.on_revoked([P0]))
        bench.jobs[0, 0].finish()
        bench.jobs[0, 1].finish()
        prefixes = await revoked
        assert prefixes[P0].to_commit == Position("queries", 0, 1)
        assert bench.delivery.assigned_partitions == 1


async def test_jobs_that_outlast_the_revoke_budget_are_left_to_the_new_owner() -> None:
    async with a_bench(revoke_timeout_s=0.05) as bench:
        bench.feed(0, 0, 1)
        bench.jobs[0, 0].finish()
        prefixes = await bench.delivery.on_revoked([P0])
        await until(lambda: bench.jobs[0, 1].cancelled)
        assert prefixes[P0].to_commit == Position("queries", 0, 0)


async def test_a_job_that_can_not_take_back_what_it_has_begun_ends_before_its_partition_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery_module, "FINISH_SHARE", 0.0)
    async with a_bench(revoke_timeout_s=HANG_S) as bench:
        bench.feed(0, 0)
        job = bench.jobs[0, 0]
        job.irrevocable = asyncio.Event()
        await until(lambda: job.started)
        revoked = asyncio.create_task(bench.delivery.on_revoked([P0]))
        await until(lambda: job.cancelled)
        assert not revoked.done()
        job.irrevocable.set()
        prefixes = await revoked
        assert job.ended
        assert prefixes[P0].to_commit is None


async def test_a_lost_partition_is_dropped_at_once_and_never_committed() -> None:
    async with a_bench() as bench:
        bench.feed(0, 0)
        bench.feed(1, 0)
        await until(lambda: bench.jobs[0, 0].started)
        bench.delivery.on_lost([P0])
        await until(lambda: bench.jobs[0, 0].cancelled)
        bench.jobs[1, 0].finish()
        assert await bench.committed(P1) == 1
        assert await bench.committed(P0) is None


async def test_a_partition_that_comes_back_begins_anew_whatever_finishes_late() -> None:
    async with a_bench() as bench:
        bench.feed(0, 7)
        late = bench.jobs[0, 7]
        bench.delivery.on_lost([P0])
        bench.jobs.clear()
        bench.delivery.on_assigned([P0])
        bench.feed(0, 5, 6, 7)
        late.finish()
        bench.jobs[0, 5].finish()
        assert await bench.committed(P0) == 6


async def test_records_of_a_partition_that_has_left_are_not_begun() -> None:
    async with a_bench() as bench:
        bench.delivery.on_lost([P0])
        bench.feed(0, 0)
        assert not await begun(bench.jobs[0, 0])


async def test_stopping_finishes_what_is_in_flight_and_takes_nothing_more() -> None:
    async with a_bench() as bench:
        bench.feed(0, 0)
        bench.stop.set()
        await until(lambda: bench.source.paused)
        bench.feed(0, 1)
        assert not await begun(bench.jobs[0, 1])
        bench.jobs[0, 0].finish()
        assert await bench.run is True
        assert bench.source.commits[-1] == {P0: 1}


async def test_a_drain_that_runs_out_of_time_says_so_and_commits_the_rest() -> None:
    async with a_bench(drain_timeout_s=0.05) as bench:
        bench.feed(0, 0, 1)
        bench.jobs[0, 0].finish()
        bench.stop.set()
        assert await bench.run is False
        assert bench.jobs[0, 1].cancelled
        assert await bench.committed(P0) == 1


async def test_a_fatal_error_of_a_job_ends_the_run() -> None:
    async with a_bench() as bench:
        bench.feed(0, 0)
        bench.jobs[0, 0].finish(FatalError("broker gone"))
        with pytest.raises(FatalError, match="broker gone"):
            await bench.run


async def test_an_outcome_that_can_not_be_published_stops_its_partition_alone_until_it_can() -> None:
    async with a_bench() as bench:
        bench.sink.refuse["answers"] = TransientError("topic answers is gone")
        bench.feed(0, 0)
        bench.jobs[0, 0].finish()
        await until(lambda: bench.source.held == PauseSet(partitions=frozenset({P0})))
        assert bench.delivery.why_stopped == "queries-0 has stopped: topic answers is gone"

        bench.feed(1, 0)
        assert await bench.committed(P0) is None
        del bench.sink.refuse["answers"]
        bench.jobs[1, 0].finish()
        await until(lambda: bench.source.held == PauseSet())
        assert bench.delivery.why_stopped is None
        await bench.committed(P0)
        await until(lambda: {P0: 1} in bench.source.commits or {P0: 1, P1: 1} in bench.source.commits)
        assert len(bench.sink.published) == 2


async def test_an_answer_its_topic_refuses_is_dead_lettered() -> None:
    async with a_bench() as bench:
        bench.sink.refuse["answers"] = PoisonError("answer_too_large", "too large")
        bench.feed(0, 0)
        bench.jobs[0, 0].finish()
        assert await bench.committed(P0) == 1
        assert [record.topic for record in bench.sink.published] == ["dlq"]


async def test_a_dead_letter_its_topic_refuses_is_kept_and_tried_again() -> None:
    async with a_bench() as bench:
        too_large = PoisonError("answer_too_large", "the record is too large")
        bench.sink.refuse = {"answers": too_large, "dlq": too_large}
        bench.feed(0, 0)
        bench.jobs[0, 0].finish()
        await until(lambda: bench.delivery.why_stopped is not None)
        assert "nothing is skipped" in str(bench.delivery.why_stopped)
        assert bench.source.commits == []

        del bench.sink.refuse["dlq"]
        assert await bench.committed(P0) == 1
        assert [record.topic for record in bench.sink.published] == ["dlq"]


async def test_what_can_not_be_published_does_not_count_against_the_other_partitions() -> None:
    async with a_bench(max_in_flight=2) as bench:
        bench.sink.refuse["answers"] = TransientError("topic answers is gone")
        bench.feed(0, 0, 1)
        assert bench.source.held.everything
        bench.jobs[0, 0].finish()
        bench.jobs[0, 1].finish()
        await until(lambda: bench.source.held == PauseSet(partitions=frozenset({P0})))
        bench.sink.refuse.clear()


async def test_a_partition_whose_oldest_query_is_slow_takes_no_more_than_the_mark() -> None:
    async with a_bench(max_in_flight=4) as bench:
        bench.feed(0, 0, 1, 2)
        for offset in (1, 2):
            bench.jobs[0, offset].finish()
        bench.feed(0, 3)
        bench.jobs[0, 3].finish()
        await until(lambda: bench.source.held == PauseSet(partitions=frozenset({P0})))
        bench.jobs[0, 0].finish()
        await until(lambda: bench.source.held == PauseSet())


async def test_a_stopped_partition_that_leaves_is_forgotten() -> None:
    async with a_bench() as bench:
        bench.sink.refuse["answers"] = TransientError("topic answers is gone")
        bench.feed(0, 0)
        bench.jobs[0, 0].finish()
        await until(lambda: bench.delivery.why_stopped is not None)
        bench.delivery.on_lost([P0])
        bench.delivery.on_assigned([P0])
        await until(lambda: bench.source.held == PauseSet())
        assert bench.delivery.why_stopped is None


async def test_progress_tells_of_each_partition_what_it_waits_for_and_why_it_is_paused() -> None:
    async with a_bench() as bench:
        bench.sink.refuse["answers"] = TransientError("topic answers is gone")
        bench.feed(0, 0, 1)
        bench.jobs[0, 0].finish()
        await until(lambda: any(p.paused for p in bench.delivery.progress))
        stopped, idle = bench.delivery.progress
        assert (stopped.partition, stopped.in_flight, stopped.uncommitted) == (0, 2, 2)
        assert stopped.paused == "topic answers is gone"
        assert stopped.oldest_since_s is not None
        assert (idle.in_flight, idle.oldest_since_s, idle.paused) == (0, None, None)

        bench.sink.refuse.clear()
        bench.jobs[0, 1].finish()
        await until(lambda: bench.delivery.progress[0].committed_offset == 2)


async def test_offsets_that_go_back_begin_a_new_epoch_and_lose_nothing() -> None:
    async with a_bench() as bench:
        bench.feed(0, 5, 6)
        bench.jobs[0, 5].finish()
        assert await bench.committed(P0) == 6
        late = bench.jobs[0, 6]

        # After a truncation, or the topic deleted and made again: one batch, with another partition's record in it.
        bench.source.feed([a_record(0, 0), a_record(0, 1), a_record(1, 0)])
        bench.jobs[0, 0].finish()
        bench.jobs[1, 0].finish()
        assert await bench.committed(P0) == 1
        await until(lambda: any(P1 in commit for commit in bench.source.commits))

        # What was in flight is answered, for nobody could read its record again, and no offset counts for it.
        late.finish()
        await until(lambda: len(bench.sink.published) == 4)
        bench.jobs[0, 1].finish()
        assert await bench.committed(P0) == 2


async def test_a_record_that_comes_once_more_of_the_same_log_is_answered_once() -> None:
    async with a_bench() as bench:
        bench.delivery.on_lost([P0])
        bench.delivery.on_assigned([P0], {P0: Lease(LogId("cluster", "topic"))})
        bench.feed(0, 5, 6, leader_epoch=3)
        bench.jobs[0, 5].finish()
        bench.feed(0, 5, 6, 7, leader_epoch=3)
        bench.jobs[0, 6].finish()
        bench.jobs[0, 7].finish()
        assert await bench.committed(P0) == 8
        await until(lambda: len(bench.sink.published) == 3)

        # What a later leader wrote there is another record.
        bench.feed(0, 6, leader_epoch=4)
        bench.jobs[0, 6].finish()
        assert await bench.committed(P0) == 7
        assert len(bench.sink.published) == 4


async def test_a_drain_waits_for_what_was_in_flight_when_offsets_went_back() -> None:
    async with a_bench() as bench:
        bench.feed(0, 6)
        late = bench.jobs[0, 6]
        bench.feed(0, 0)
        bench.jobs[0, 0].finish()
        bench.stop.set()
        await until(lambda: bench.source.paused)
        assert not bench.run.done()
        late.finish()
        assert await bench.run is True
        assert len(bench.sink.published) == 2


async def test_a_job_that_can_not_be_made_ends_the_run_and_nothing_is_committed_past_it() -> None:
    async with a_bench() as bench:
        make = bench.delivery._new_job

        def broken(record: Record) -> Job:
            if record.position == Position("queries", 0, 1):
                raise RecursionError("unforeseen")
            return make(record)

        bench.delivery._new_job = broken
        bench.feed(0, 0, 1, 2)
        assert not await begun(bench.jobs[0, 0])
        with pytest.raises(FatalError, match="unforeseen"):
            await bench.run
        assert all(commit.get(P0, 0) <= 1 for commit in bench.source.commits)


async def test_a_fatal_error_while_draining_is_not_a_clean_drain() -> None:
    async with a_bench() as bench:
        bench.feed(0, 0, 1)
        bench.stop.set()
        await until(lambda: bench.source.paused)
        bench.jobs[0, 0].finish(FatalError("fenced"))
        # At once, not when the last query in flight has ended.
        with pytest.raises(FatalError, match="fenced"):
            await bench.run


async def test_a_partition_given_up_while_the_loop_was_busy_is_never_committed() -> None:
    """The rebalance callback, step by step, where the loop does not answer within `revoke_timeout_s`."""
    async with a_bench(revoke_timeout_s=0.05) as bench:
        leases = {P0: Lease()}
        bench.delivery.on_lost([P0])
        bench.delivery.on_assigned([P0], leases)
        bench.feed(0, 0)
        job = bench.jobs[0, 0]
        await until(lambda: job.started)
        # The consumer's thread: it has waited long enough, ends the lease, gives the partition up.
        leases[P0].end()
        job.finish()
        bench.feed(1, 0)
        bench.jobs[1, 0].finish()
        assert await bench.committed(P1) == 1
        assert await bench.committed(P0) is None


async def test_a_revoke_that_is_cut_off_cancels_what_is_in_flight() -> None:
    async with a_bench(revoke_timeout_s=HANG_S) as bench:
        bench.feed(0, 0)
        await until(lambda: bench.jobs[0, 0].started)
        revoked = asyncio.create_task(bench.delivery.on_revoked([P0]))
        await until(lambda: bench.delivery.assigned_partitions == 1)
        revoked.cancel()
        await until(lambda: bench.jobs[0, 0].cancelled)
        assert await bench.committed(P0) is None


async def test_progress_is_told_however_rarely_the_worker_commits() -> None:
    async with a_bench(commit_interval_s=HANG_S) as bench:
        bench.feed(0, 0)
        await until(lambda: [partition.in_flight for partition in bench.delivery.progress] == [1, 0])
        bench.feed(0, 1)
        await until(lambda: [partition.in_flight for partition in bench.delivery.progress] == [2, 0])
        assert bench.source.commits == []


async def test_a_partition_that_is_done_with_is_committed_to_its_end() -> None:
    async with a_bench() as bench:
        bench.feed(0, 0)
        # An aborted transaction and its marker: no record comes, and the partition is read up.
        bench.source.listener.on_ends([Position("queries", 0, 501), Position("queries", 1, 7)])
        assert await bench.committed(P1) == 8
        assert await bench.committed(P0) is None
        bench.jobs[0, 0].finish()
        assert await bench.committed(P0) == 502
        bench.feed(0, 502)
        bench.jobs[0, 502].finish()
        assert await bench.committed(P0) == 503


async def test_an_end_before_what_was_read_begins_a_new_epoch() -> None:
    async with a_bench() as bench:
        bench.feed(0, 5)
        bench.source.listener.on_ends([Position("queries", 0, 1)])
        bench.jobs[0, 5].finish()
        assert await bench.committed(P0) == 2
        await until(lambda: len(bench.sink.published) == 1)


async def test_outcomes_that_wait_for_the_broker_pause_all_partitions_at_a_mark_of_bytes() -> None:
    async with a_bench(max_unpublished_bytes=12) as bench:
        bench.sink.refuse["answers"] = TransientError("topic answers is gone")
        bench.feed(0, 0)
        bench.feed(1, 0)
        bench.jobs[0, 0].finish()
        await until(lambda: bench.source.held == PauseSet(partitions=frozenset({P0})))
        bench.jobs[1, 0].finish()
        await until(lambda: bench.source.paused)
        assert bench.metrics.registry.get_sample_value("rerank_worker_unpublished_bytes") == 12

        bench.sink.refuse.clear()
        await until(lambda: bench.source.held == PauseSet())
        await until(lambda: bench.metrics.registry.get_sample_value("rerank_worker_unpublished_bytes") == 0)


async def test_what_a_partition_that_leaves_had_to_publish_is_no_longer_held() -> None:
    async with a_bench(max_unpublished_bytes=6) as bench:
        bench.sink.refuse["answers"] = TransientError("topic answers is gone")
        bench.feed(0, 0)
        bench.jobs[0, 0].finish()
        await until(lambda: bench.source.paused)
        bench.delivery.on_lost([P0])
        await until(lambda: bench.source.held == PauseSet())
