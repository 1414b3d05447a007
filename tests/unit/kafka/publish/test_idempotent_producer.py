"""What one record or one topic costs the others, with a client that fails as told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.producing import FakeClient, fake_clients
from tests.patience import HANG_S
from worker.errors import PoisonError, TransientError
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.idempotent_producer import IdempotentProducer
from worker.settings import KafkaSettings


@asynccontextmanager
async def a_producer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IdempotentProducer]:
    fake_clients(monkeypatch)
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
