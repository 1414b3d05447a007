"""What one record or one topic costs the others, with a client that fails as told."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError

from tests.patience import HANG_S
from worker.errors import PoisonError, TransientError
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish import idempotent_producer
from worker.kafka.publish.idempotent_producer import IdempotentProducer
from worker.settings import KafkaSettings

Report = Callable[[KafkaError | None, object], None]


class FakeClient:
    """Acknowledges at once, but for these topics: `away` never answers, `small` refuses, `missing` is not there."""

    made: ClassVar["list[FakeClient]"] = []
    look_up = threading.Event()

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.sent: list[str] = []
        self._reports: list[tuple[Report, KafkaError | None]] = []
        FakeClient.made.append(self)

    def produce(self, topic: str, *, on_delivery: Report, **_record: object) -> None:
        self.sent.append(topic)
        alone = self.config.get("batch.num.messages") == 1
        refused = topic == "small" or (topic == "beside" and not alone)
        if topic == "missing":
            self._reports.append((on_delivery, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        elif topic != "away":
            self._reports.append((on_delivery, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if refused else None))

    def list_topics(self, topic: str, timeout: float) -> None:
        assert FakeClient.look_up.wait(HANG_S)

    def poll(self, timeout: float) -> int:
        if not self._reports:
            # As the client's own, which waits for a report for some of its timeout.
            time.sleep(0.001)
        while self._reports:
            report, error = self._reports.pop(0)
            report(error, None)
        return 0

    def flush(self, timeout: float) -> int:
        return 0


@asynccontextmanager
async def a_producer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IdempotentProducer]:
    monkeypatch.setattr(idempotent_producer, "Producer", FakeClient)
    monkeypatch.setattr(FakeClient, "made", [])
    monkeypatch.setattr(FakeClient, "look_up", threading.Event())
    producer = IdempotentProducer(KafkaSettings())
    producer.start()
    try:
        yield producer
    finally:
        FakeClient.look_up.set()
        await producer.close()


def to(topic: str) -> Publication:
    return Publication(topic, None, b"x", ())


async def test_one_record_that_is_too_large_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_producer(monkeypatch) as producer, asyncio.timeout(HANG_S):
        away = asyncio.create_task(producer.publish(to("away")))
        with pytest.raises(PoisonError) as refused:
            await producer.publish(to("small"))
        assert refused.value.reason == "answer_too_large"
        await producer.publish(to("answers"))
        assert not away.done()
        away.cancel()


async def test_a_record_refused_for_the_batch_it_travelled_in_is_published_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_producer(monkeypatch) as producer, asyncio.timeout(HANG_S):
        await producer.publish(to("beside"))
        together, alone = FakeClient.made
        assert (together.sent, alone.sent) == (["beside"], ["beside"])


async def test_a_topic_that_is_looked_up_again_holds_up_its_own_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_producer(monkeypatch) as producer, asyncio.timeout(HANG_S):
        with pytest.raises(TransientError):
            await producer.publish(to("missing"))
        waiting = [asyncio.create_task(producer.publish(to("missing"))) for _ in range(2)]
        await producer.publish(to("answers"))
        assert FakeClient.made[0].sent == ["missing", "answers"]
        FakeClient.look_up.set()
        for task in waiting:
            with pytest.raises(TransientError):
                await task
        assert FakeClient.made[0].sent.count("missing") == 3


async def test_a_topic_that_an_event_named_and_that_is_not_there_refuses_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_producer(monkeypatch) as producer, asyncio.timeout(HANG_S):
        with pytest.raises(PoisonError) as refused:
            await producer.publish(Publication("missing", None, b"x", (), asked_for=True))
        assert refused.value.reason == "not_there"
