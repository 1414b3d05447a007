"""An outcome of several records counts when the broker has them all, and none is sent again for another's sake."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.patience import HANG_S
from worker.errors import PoisonError, TransientError, WorkerError
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition
from worker.kafka.publish.at_least_once import AtLeastOnce
from worker.resilience.retry import RetryPolicy

AT = Position("queries", 0, 7)


@dataclass
class FakeProducer:
    """Takes what it is given, after the failures it is told of."""

    failures: dict[str, list[WorkerError]] = field(default_factory=dict)
    taken: list[bytes | None] = field(default_factory=list)

    async def publish(self, publication: Publication) -> None:
        if left := self.failures.get(publication.topic):
            raise left.pop(0)
        self.taken.append(publication.value)


@dataclass(frozen=True, slots=True)
class Replaceable(Publication):
    instead: Sequence[Publication]

    def refused(self, error: PoisonError) -> Sequence[Publication]:
        return self.instead


def to(topic: str, value: bytes, also: Sequence[Publication] = ()) -> Publication:
    return Publication(topic, None, value, (), also=also)


async def delivered(producer: FakeProducer, publication: Publication | None) -> AssignedPartition:
    partition = AssignedPartition(("queries", 0), max_pending=10, order=None, on_change=lambda: None)
    partition.track(Record(AT, None, b"", (), 0), now_s=0)
    guarantee = AtLeastOnce(None, producer, RetryPolicy(0.001, 0.001))  # type: ignore[arg-type]  # fakes
    async with asyncio.timeout(HANG_S):
        await guarantee.deliver(partition, AT, publication)
    return partition


async def test_what_goes_out_also_goes_out_before_the_offset_counts() -> None:
    producer = FakeProducer()
    partition = await delivered(producer, to("dlq", b"letter", also=[to("replies", b"failed")]))
    assert producer.taken == [b"letter", b"failed"]
    assert partition.prefix.to_commit == AT


async def test_a_record_is_not_sent_again_because_the_next_one_was_not_taken() -> None:
    producer = FakeProducer({"replies": [TransientError("away"), TransientError("away")]})
    partition = await delivered(producer, to("dlq", b"letter", also=[to("replies", b"failed")]))
    assert producer.taken == [b"letter", b"failed"]
    assert partition.why_stopped is None


async def test_a_record_may_be_left_out_if_it_says_so() -> None:
    producer = FakeProducer({"replies": [PoisonError("not_writable", "no")]})
    reply = Replaceable("replies", None, b"failed", (), instead=[])
    partition = await delivered(producer, to("dlq", b"letter", also=[reply]))
    assert producer.taken == [b"letter"]
    assert partition.prefix.to_commit == AT


async def test_what_goes_out_instead_brings_its_own_and_leaves_what_was_to_go_out_also() -> None:
    refusal = PoisonError("answer_too_large", "too large")
    producer = FakeProducer({"answers": [refusal], "dlq": [refusal]})
    letter = Replaceable(
        "dlq", None, b"letter", (), also=[to("replies", b"failed")], instead=[to("dlq", b"note, which is smaller")]
    )
    await delivered(producer, Replaceable("answers", None, b"answer", (), instead=[letter]))
    assert sorted(map(str, producer.taken)) == ["b'failed'", "b'note, which is smaller'"]


async def test_an_outcome_of_nothing_counts_at_once() -> None:
    producer = FakeProducer()
    partition = await delivered(producer, None)
    assert producer.taken == []
    assert partition.prefix.to_commit == AT
