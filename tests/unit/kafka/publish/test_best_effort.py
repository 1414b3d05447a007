"""Records that nobody waits for: whatever becomes of them is counted and concerns nobody."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from tests.fakes.producing import FakeClient, fake_clients
from tests.patience import HANG_S
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.best_effort import MOST_BYTES, BestEffort
from worker.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class Told(Publication):
    """Notes that the broker has it."""

    acknowledgements: list[str]

    def acknowledged(self) -> None:
        self.acknowledgements.append(self.topic)


class Bench:
    """A producer, what became of its records, and which of them were told so."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.acknowledged: list[str] = []
        self.producer = BestEffort(KafkaSettings(), on_outcome=self.outcomes.append)

    def publish(self, *topics: str, size: int = 1) -> None:
        for topic in topics:
            self.producer.publish(Told(topic, None, b"x" * size, (), acknowledgements=self.acknowledged))

    async def until(self, outcomes: Sequence[str]) -> None:
        """Wait for as many outcomes, which must be these."""
        async with asyncio.timeout(HANG_S):
            while len(self.outcomes) < len(outcomes):
                await asyncio.sleep(0.001)
        assert self.outcomes == outcomes


@asynccontextmanager
async def a_bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    fake_clients(monkeypatch)
    bench = Bench()
    bench.producer.start()
    try:
        yield bench
    finally:
        FakeClient.look_up.set()
        await bench.producer.close()


async def test_a_record_is_counted_and_told_when_the_broker_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch) as bench:
        bench.publish("contexts")
        assert bench.outcomes == []
        await bench.until(["sent"])
        assert bench.acknowledged == ["contexts"]


@pytest.mark.parametrize("topic", ["missing", "forbidden", "small", "full", "broken"])
async def test_what_its_topic_or_the_client_does_not_take_is_counted_and_the_next_one_goes_out(
    monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    async with a_bench(monkeypatch) as bench:
        bench.publish(topic)
        await bench.until(["failed"])
        bench.publish("contexts")
        await bench.until(["failed", "sent"])
        assert bench.acknowledged == ["contexts"]


async def test_what_waits_is_bounded_and_the_rest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch) as bench:
        bench.publish("away", "away", size=MOST_BYTES // 2 - 100)
        bench.publish("contexts", size=1_000)
        assert bench.outcomes == ["dropped"]
        # There is room for a small one.
        bench.publish("contexts")
        await bench.until(["dropped", "sent"])


async def test_what_is_done_with_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch) as bench:
        for number, topic in enumerate(["contexts", "small", "full"], 1):
            bench.publish(topic, size=MOST_BYTES - 100)
            await bench.until(["sent", "failed", "failed"][:number])


async def test_the_end_does_not_wait_for_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(monkeypatch) as bench, asyncio.timeout(HANG_S):
        bench.publish("away", "away")
        await asyncio.sleep(0)
        await bench.producer.close()
        await bench.until(["failed", "failed"])


async def test_the_log_has_a_line_when_it_begins_to_fail_and_one_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_bench(monkeypatch) as bench:
        with capture_logs() as logs:
            bench.publish("small", "forbidden", "small")
            await bench.until(["failed"] * 3)
            bench.publish("contexts")
            await bench.until([*["failed"] * 3, "sent"])
            bench.publish("contexts")
            await bench.until([*["failed"] * 3, *["sent"] * 2])
    told = [(log["log_level"], log["topic"]) for log in logs if log["event"].startswith("best-effort")]
    assert told == [("warning", "small"), ("info", "contexts")]
