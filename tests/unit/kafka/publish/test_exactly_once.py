"""Which offsets a transaction may carry, with a producer that says when it commits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from confluent_kafka import TopicPartition

from tests.patience import HANG_S
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition
from worker.kafka.publish.exactly_once import ExactlyOnce
from worker.kafka.publish.guarantees import publish_policy
from worker.kafka.publish.transactional_producer import AbandonedError
from worker.settings import KafkaSettings


@dataclass
class FakeSource:
    group_metadata: object = "a generation"


@dataclass
class FakeProducer:
    """Takes every transaction whose offsets may be committed; the next waits while it is held."""

    transactions: list[tuple[list[bytes | None], list[tuple[int, int]]]] = field(default_factory=list)
    asked: int = 0

    def start(self) -> None: ...

    def close(self) -> None: ...

    def transact(
        self,
        publications: Sequence[Publication],
        offsets: Sequence[TopicPartition],
        group: object,
        *,
        singly: bool,
        may_commit: Callable[[], bool],
    ) -> None:
        self.asked += 1
        self.before_commit()
        if not may_commit():
            raise AbandonedError
        self.transactions.append(
            ([publication.value for publication in publications], [(at.partition, at.offset) for at in offsets])
        )

    def before_commit(self) -> None: ...


@dataclass
class Bench:
    """A guarantee and the outcomes it was given."""

    guarantee: ExactlyOnce
    producer: FakeProducer
    commits: list[str]
    """What was told of the offsets of each transaction."""
    deliveries: "list[asyncio.Task[None]]" = field(default_factory=list)

    def outcome(self, partition: AssignedPartition, offset: int) -> None:
        """A query that is tracked and whose outcome is made."""
        position = Position("queries", partition.partition[1], offset, leader_epoch=4)
        partition.track(Record(position, None, b"", (), 0), now_s=0)
        publication = Publication("answers", None, str(offset).encode(), ())
        self.deliveries.append(asyncio.create_task(self.guarantee.deliver(partition, position, publication)))


@asynccontextmanager
async def a_bench() -> AsyncIterator[Bench]:
    kafka = KafkaSettings(transaction_interval_s=0.01)
    producer = FakeProducer()
    commits: list[str] = []
    guarantee = ExactlyOnce(kafka, FakeSource(), producer, publish_policy(kafka), commits.append)  # type: ignore[arg-type]  # fakes
    await guarantee.start()
    bench = Bench(guarantee, producer, commits)
    try:
        yield bench
    finally:
        await guarantee.close()
        for delivery in bench.deliveries:
            delivery.cancel()
        await asyncio.gather(*bench.deliveries, return_exceptions=True)


def a_partition(number: int) -> AssignedPartition:
    return AssignedPartition(("queries", number), max_pending=10, order=None, on_change=lambda: None)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_outcomes_and_the_offset_behind_them_go_in_one_transaction() -> None:
    async with a_bench() as bench:
        partition = a_partition(0)
        bench.outcome(partition, 7)
        bench.outcome(partition, 8)
        await until(lambda: bench.producer.transactions != [])
        assert bench.producer.transactions == [([b"7", b"8"], [(0, 9)])]


async def test_outcomes_of_a_partition_that_was_given_up_are_not_committed_under_the_next_generation() -> None:
    """A revoke that was cut off tells the guarantee nothing: it is enough that the lease has ended."""
    async with a_bench() as bench:
        gone, kept = a_partition(0), a_partition(1)
        bench.outcome(gone, 7)
        gone.lease.end()
        bench.outcome(kept, 3)
        await until(lambda: bench.producer.transactions != [])
        assert bench.producer.transactions == [([b"3"], [(1, 4)])]


async def test_a_partition_given_up_in_the_middle_of_a_transaction_aborts_it() -> None:
    async with a_bench() as bench:
        gone, kept = a_partition(0), a_partition(1)
        bench.producer.before_commit = gone.lease.end  # type: ignore[method-assign]
        bench.outcome(gone, 7)
        bench.outcome(kept, 3)
        await until(lambda: bench.producer.transactions != [])
        assert bench.producer.transactions == [([b"3"], [(1, 4)])]
        await until(lambda: bench.commits == ["put_off", "ok"])


async def test_what_was_in_flight_when_offsets_went_back_is_published_without_its_offsets() -> None:
    async with a_bench() as bench:
        former, present = a_partition(0), a_partition(0)
        # In the middle of a transaction at that, which must not commit the offsets of the log that is gone.
        bench.producer.before_commit = former.supersede  # type: ignore[method-assign]
        bench.outcome(former, 7)
        await until(lambda: bench.producer.transactions != [])
        assert bench.producer.transactions == [([b"7"], [])]
        assert bench.producer.asked == 2

        bench.outcome(present, 0)
        await until(lambda: len(bench.producer.transactions) == 2)
        assert bench.producer.transactions[1] == ([b"0"], [(0, 1)])
        # The second transaction had no offsets.
        await until(lambda: bench.commits == ["put_off", "ok"])


async def test_a_partition_that_is_done_with_is_committed_to_its_end_and_one_in_work_is_not() -> None:
    async with a_bench() as bench:
        idle, busy = a_partition(0), a_partition(1)
        for partition in (idle, busy):
            partition.prefix.reach_end(Position("queries", partition.partition[1], 4))
        busy.tasks.add(asyncio.create_task(asyncio.Event().wait()))  # type: ignore[arg-type]  # any task that lasts
        bench.guarantee.commit({idle.partition: idle, busy.partition: busy})
        await until(lambda: bench.producer.transactions != [])
        assert bench.producer.transactions == [([], [(0, 5)])]
        assert idle.prefix.committed == Position("queries", 0, 4)
        for task in busy.tasks:
            task.cancel()
