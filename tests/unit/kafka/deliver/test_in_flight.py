"""Whatever happens in whatever order: when everything is done with, nothing stays paused."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.patience import HANG_S
from worker.errors import FatalError, TransientError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.pauses import PauseSet
from worker.kafka.consume.records import Record, SourceListener
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.deliver.in_flight import InFlight, PoisonGuard
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.at_least_once import AtLeastOnce
from worker.kafka.publish.guarantees import publish_policy
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics

SMALL = {
    "max_in_flight": 4,
    "max_in_flight_pairs": 15,
    "commit_interval_s": 0.001,
    "revoke_timeout_s": 0.001,
    "publish_retry_max_s": 0.001,
}
PARTITIONS = [("queries", number) for number in range(3)]


class FakeSource:
    """Remembers what it is to hold."""

    def __init__(self, kafka: KafkaSettings, listener: SourceListener) -> None:
        self.held = PauseSet()

    def start(self) -> None: ...

    def pause(self, to_pause: PauseSet) -> None:
        self.held = to_pause

    def commit(self, prefixes: Mapping[Partition, CompletedPrefix]) -> None: ...

    async def commit_now(self, prefixes: Mapping[Partition, CompletedPrefix]) -> None: ...

    async def close(self) -> None: ...


class FakeSink:
    """Takes everything or nothing."""

    def __init__(self) -> None:
        self.away = False

    def start(self) -> None: ...

    async def publish(self, publication: Publication) -> None:
        if self.away:
            raise TransientError("the topic is gone")

    async def close(self) -> None: ...


class FakeJob:
    """Ends when it is told to."""

    pairs = 3

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def run(self) -> Publication:
        await self.end.wait()
        return Publication("answers", None, b"", ())


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["assign", "revoke", "lose"]), st.integers(0, 2)),
        st.tuples(st.just("feed"), st.integers(0, 2)),
        st.tuples(st.just("feed"), st.integers(0, 2)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.sampled_from(["away", "back"]), st.just(0)),
    ),
    min_size=10,
    max_size=60,
)


class World:
    """A delivery and what may happen to it."""

    def __init__(self, ordering: str) -> None:
        self.jobs: list[FakeJob] = []
        self.sink = FakeSink()
        self.owned: set[Partition] = set()
        self.next_offset = 0
        kafka = KafkaSettings.model_validate(SMALL | {"ordering": ordering})
        self.delivery = Delivery(
            kafka,
            self.new_job,
            lambda source: AtLeastOnce(source, self.sink, publish_policy(kafka)),  # type: ignore[arg-type]  # a fake producer
            Metrics(CollectorRegistry()),
            new_source=FakeSource,  # type: ignore[arg-type]  # stands in for Source
        )

    def new_job(self, record: Record) -> FakeJob:
        self.jobs.append(FakeJob())
        return self.jobs[-1]

    async def happen(self, what: str, number: int) -> None:
        partition = PARTITIONS[number % len(PARTITIONS)]
        match what:
            case "assign" if partition not in self.owned:
                self.owned.add(partition)
                self.delivery.on_assigned([partition])
            case "revoke" if partition in self.owned:
                self.owned.discard(partition)
                await self.delivery.on_revoked([partition])
            case "lose" if partition in self.owned:
                self.owned.discard(partition)
                self.delivery.on_lost([partition])
            case "feed":
                record = Record(Position(*partition, self.next_offset), b"k", b"", (), 0)
                self.delivery.prepare([record])()
                self.next_offset += 1
            case "end" if self.jobs:
                self.jobs[number % len(self.jobs)].end.set()
            case "away" | "back":
                self.sink.away = what == "away"

    @property
    def idle(self) -> bool:
        return not any(assigned.tasks for assigned in self.delivery._in_flight.assigned.values())


@given(steps, st.sampled_from(["none", "key", "partition"]))
@settings(max_examples=100)
async def test_nothing_stays_paused(happenings: list[tuple[str, int]], ordering: str) -> None:
    world = World(ordering)
    stop = asyncio.Event()
    run = asyncio.create_task(world.delivery.run(stop))
    for number in range(len(PARTITIONS)):
        await world.happen("assign", number)
    for what, number in happenings:
        await world.happen(what, number)
        # A job that has ended takes a few steps of the loop to publish.
        for _ in range(5):
            await asyncio.sleep(0)

    world.sink.away = False
    for job in world.jobs:
        job.end.set()
    source = world.delivery.source
    assert isinstance(source, FakeSource)
    async with asyncio.timeout(HANG_S):
        while not world.idle or source.held != PauseSet():
            await asyncio.sleep(0.001)
    assert world.delivery.why_stopped is None
    stop.set()
    assert await run is True


def test_the_source_is_told_when_a_mark_is_crossed_and_not_with_every_query() -> None:
    told: list[PauseSet] = []
    metrics = Metrics(CollectorRegistry())
    in_flight = InFlight(KafkaSettings(max_in_flight=4, max_in_flight_pairs=1_000), metrics, told.append)
    permits = [in_flight.admit(pairs=3) for _ in range(3)]
    assert told == []
    assert metrics.registry.get_sample_value("rerank_worker_in_flight_pairs") == 9

    permits.append(in_flight.admit(pairs=3))
    assert told == [PauseSet(everything=True)]
    permits.pop().release()
    assert len(told) == 1
    permits.pop().release()
    assert told[1:] == [PauseSet()]
    for permit in permits:
        permit.release()
    assert len(told) == 2
    assert metrics.registry.get_sample_value("rerank_worker_in_flight_queries") == 0


def test_a_partition_whose_oldest_query_lasts_pauses_by_itself_when_its_mark_is_crossed() -> None:
    told: list[PauseSet] = []
    in_flight = InFlight(KafkaSettings(max_in_flight=4), Metrics(CollectorRegistry()), told.append)
    in_flight.assign(PARTITIONS[0])
    assigned = in_flight.assigned[PARTITIONS[0]]
    records = [Record(Position("queries", 0, offset), None, b"", (), None) for offset in range(4)]
    for record in records:
        assigned.track(record, now_s=0.0)
    assert told == [PauseSet(partitions=frozenset(PARTITIONS[:1]))]
    for record in reversed(records):
        assigned.complete(record.position)
    assert told[1:] == [PauseSet()]


def test_the_metrics_tell_what_waits_and_where_the_marks_are() -> None:
    metrics = Metrics(CollectorRegistry())
    kafka = KafkaSettings(max_in_flight=4, max_in_flight_pairs=100, max_unpublished_bytes=1_000)
    in_flight = InFlight(kafka, metrics, lambda _: None)
    in_flight.assign(PARTITIONS[0])
    assigned = in_flight.assigned[PARTITIONS[0]]
    # Kafka's timestamps, in milliseconds; the second is of a producer whose clock is behind.
    for offset, produced_ms in enumerate((50_000, 20_000, 70_000)):
        assigned.track(Record(Position("queries", 0, offset), None, b"", (), produced_ms), now_s=0.0)
    assigned.complete(Position("queries", 0, 2))

    def shown(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"rerank_worker_{name}")

    in_flight.progress(now_s=1.0, unix_now_s=90.0)
    assert shown("completed_uncommitted_queries") == 1
    assert shown("oldest_event_age_seconds") == 40, "of the oldest in the partition: none is before it in line"
    assigned.complete(Position("queries", 0, 0))
    assigned.complete(Position("queries", 0, 1))
    in_flight.progress(now_s=1.0, unix_now_s=90.0)
    assert shown("completed_uncommitted_queries") == shown("oldest_event_age_seconds") == 0
    limits = [shown(f"{what}_limit") for what in ("in_flight_queries", "in_flight_pairs", "unpublished_bytes")]
    assert limits == [4, 100, 1_000]


def test_poison_now_and_then_is_borne() -> None:
    guard = PoisonGuard(limit=0.5, window=10)
    for number in range(1_000):
        guard.count(poison=number % 2 == 0)


def test_nothing_is_judged_before_the_window_is_full() -> None:
    guard = PoisonGuard(limit=0.0, window=10)
    for _ in range(9):
        guard.count(poison=True)
    with pytest.raises(FatalError, match=r"10 of the last 10 events.*POISON_LIMIT=1"):
        guard.count(poison=True)


def test_what_was_good_long_ago_does_not_count() -> None:
    guard = PoisonGuard(limit=0.5, window=10)
    for _ in range(10_000):
        guard.count(poison=False)
    for _ in range(5):
        guard.count(poison=True)
    with pytest.raises(FatalError, match="6 of the last 10"):
        guard.count(poison=True)


def test_a_limit_of_one_bears_everything() -> None:
    guard = PoisonGuard(limit=1.0, window=10)
    for _ in range(100):
        guard.count(poison=True)
