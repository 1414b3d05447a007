"""What the consumer's thread hands over to the loop, and what it owes the loop when it breaks."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.patience import HANG_S
from worker.errors import FatalError
from worker.kafka.consume import source as source_module
from worker.kafka.consume.offsets import CompletedPrefix, Position
from worker.kafka.consume.polling import Polled
from worker.kafka.consume.records import Record
from worker.kafka.consume.source import Source
from worker.settings import KafkaSettings


class Listener:
    """Takes nothing, and remembers what it is told is fatal."""

    def __init__(self) -> None:
        self.fatal: asyncio.Future[FatalError] = asyncio.get_running_loop().create_future()

    def prepare(self, records: Sequence[Record]) -> Callable[[], None]:
        def take() -> None:
            raise RuntimeError("unforeseen")

        return take

    def on_fatal(self, error: FatalError) -> None:
        if not self.fatal.done():
            self.fatal.set_result(error)


async def test_records_that_the_loop_can_not_take_end_the_worker() -> None:
    """asyncio would log the error and go on, and later offsets would be committed past these records."""
    listener = Listener()
    source = Source(KafkaSettings(), listener)  # type: ignore[arg-type]  # what is told here
    record = Record(Position("queries", 0, 0), None, b"", (), 0)
    await asyncio.to_thread(source._hand_over, Polled([record], []))
    async with asyncio.timeout(HANG_S):
        assert "unforeseen" in str(await listener.fatal)


class SilentCoordinator:
    """A consumer whose last commit nobody answers."""

    def __init__(self, _configuration: object) -> None:
        self.given_up = threading.Event()

    def subscribe(self, _topics: object, **_callbacks: object) -> None: ...

    def poll(self, timeout_s: float) -> None:
        threading.Event().wait(timeout_s)

    def commit(self, **_: object) -> None:
        assert self.given_up.wait(HANG_S)

    def close(self) -> None: ...


async def test_the_last_commit_is_waited_for_no_longer_than_a_revoke(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = SilentCoordinator({})
    monkeypatch.setattr(source_module, "Consumer", lambda _configuration: consumer)
    source = Source(KafkaSettings(revoke_timeout_s=0.1), Listener())  # type: ignore[arg-type]  # what is told here
    source.start()
    prefix, position = CompletedPrefix(), Position("queries", 0, 0)
    prefix.track(position, now_s=0.0)
    prefix.complete(position)
    async with asyncio.timeout(HANG_S / 2):
        await source.commit_now({position.topic_partition: prefix})
    # Not answered, so not committed: whoever comes next works on it again.
    assert prefix.to_commit == position
    consumer.given_up.set()
    await source.close()


async def test_the_last_commit_does_not_wait_for_a_thread_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(configuration: object) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "broken"))

    monkeypatch.setattr(source_module, "Consumer", broken)
    listener = Listener()
    source = Source(KafkaSettings(revoke_timeout_s=10 * HANG_S), listener)  # type: ignore[arg-type]  # what is told here
    source.start()
    async with asyncio.timeout(HANG_S):
        assert "broken" in str(await listener.fatal)
        await source.commit_now({("queries", 0): CompletedPrefix()})
    await source.close()


@pytest.mark.parametrize(("mechanism", "ends"), [("OAUTHBEARER", False), ("SCRAM-SHA-512", True)])
async def test_a_token_that_can_not_be_renewed_for_now_does_not_end_the_worker(mechanism: str, ends: bool) -> None:
    listener = Listener()
    kafka = KafkaSettings.model_validate({"security_protocol": "sasl_ssl", "sasl_mechanism": mechanism})
    source = Source(kafka, listener)  # type: ignore[arg-type]  # what is told here
    source._on_error(KafkaError(KafkaError._AUTHENTICATION, "Failed to acquire SASL OAUTHBEARER token: 503"))
    await asyncio.sleep(0)
    assert listener.fatal.done() is ends
