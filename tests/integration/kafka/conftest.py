"""Delivery on real Kafka, with jobs that do nothing but answer: no models, no vector store, seconds per test."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from prometheus_client import CollectorRegistry

from tests.patience import HANG_S
from tests.topics import committed_offsets, held
from worker.errors import PoisonError
from worker.kafka.config import common_config
from worker.kafka.consume.records import Record
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.guarantees import new_guarantee
from worker.local.process import await_condition
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics


@dataclass
class EchoJob:
    """Answers with the value of its query, or dead-letters it: what the value says."""

    kafka: KafkaSettings
    record: Record
    gates: dict[bytes, asyncio.Event]
    pairs: int = 1

    async def run(self) -> Publication:
        value = self.record.value or b""
        if gate := self.gates.get(value):
            await gate.wait()
        if value.startswith(b"poison") or self.record.unreadable_headers is not None:
            return self.dead_letter()
        return Echo(self.kafka.answer_topic, self.record.key, value, (), self)

    def dead_letter(self) -> Publication:
        return Publication(self.kafka.dead_letter_topic, self.record.key, self.record.value, ())


@dataclass(frozen=True, slots=True)
class Echo(Publication):
    """An answer that is dead-lettered where its topic does not take it."""

    job: EchoJob

    def refused(self, error: PoisonError) -> list[Publication]:
        return [self.job.dead_letter()]


@dataclass
class Running:
    """A delivery that consumes."""

    delivery: Delivery
    gates: dict[bytes, asyncio.Event]
    stop: asyncio.Event
    run: "asyncio.Task[bool]"
    metrics: CollectorRegistry


class Reader:
    """Reads a topic from its beginning, in a thread of its own; sees only what is committed."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self.messages: list[Message] = []
        self._consumer = Consumer(
            common_config(kafka)
            | {"group.id": f"reader-{topic}", "enable.auto.commit": False, "isolation.level": "read_committed"}
        )
        partitions = self._consumer.list_topics(topic, timeout=HANG_S).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def values(self) -> list[bytes]:
        return [cast("bytes", message.value()) for message in self.messages]

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(HANG_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.messages += [message for message in self._consumer.consume(500, 0.1) if message.error() is None]
        self._consumer.close()


class Bench:
    """Topics and a group of a test's own, and what a test does with them."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.admin = AdminClient(common_config(kafka))
        self.readers: list[Reader] = []

    @asynccontextmanager
    async def running(self, *gated: bytes, worker_id: str = "worker", **changes: object) -> AsyncIterator[Running]:
        """A delivery, drained at the end. A query whose value is gated waits until its gate is set."""
        kafka = KafkaSettings.model_validate(self.kafka.model_dump() | changes)
        gates = {value: asyncio.Event() for value in gated}
        registry = CollectorRegistry()
        delivery = Delivery(
            kafka,
            lambda record: EchoJob(kafka, record, gates),
            partial(new_guarantee, kafka, worker_id),
            Metrics(registry),
        )
        stop = asyncio.Event()
        run = asyncio.create_task(delivery.run(stop))
        try:
            yield Running(delivery, gates, stop, run, registry)
        finally:
            for gate in gates.values():
                gate.set()
            stop.set()
            await asyncio.wait({run}, timeout=HANG_S)

    def produce(self, *values: bytes, partition: int = 0, key: bytes | None = None) -> None:
        producer = Producer(common_config(self.kafka) | {"message.max.bytes": 10_000_000})
        for value in values:
            producer.produce(self.kafka.query_topic, key=key, value=value, partition=partition)
            producer.poll(0)
        assert producer.flush(HANG_S) == 0

    def read(self, topic: str) -> Reader:
        self.readers.append(Reader(self.kafka, topic))
        return self.readers[-1]

    async def read_all(self, topic: str) -> list[bytes]:
        """The values of everything a topic holds now that is not in an open or aborted transaction."""
        return await asyncio.to_thread(self._read_all, topic)

    def _read_all(self, topic: str) -> list[bytes]:
        return [cast("bytes", message.value()) for message in held(self.kafka, topic)]

    async def committed(self) -> list[int]:
        """The group's committed offset of each partition; see ``committed_offsets``."""
        return await asyncio.to_thread(committed_offsets, self.admin, self.kafka)

    async def until_committed(self, *offsets: int) -> None:
        """Return when these are the committed offsets, partition by partition."""
        async with asyncio.timeout(HANG_S):
            while await self.committed() != list(offsets):
                await asyncio.sleep(0.05)

    def delete_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic], operation_timeout=HANG_S)[topic].result(HANG_S)
        assert await_condition(lambda: topic not in self.admin.list_topics(timeout=HANG_S).topics, timeout_s=HANG_S)

    def configure_topic(self, topic: str, **configuration: str) -> None:
        self._configure(ResourceType.TOPIC, topic, configuration)

    def configure_group(self, **configuration: str) -> None:
        """What the broker decides for a group of `group.protocol=consumer`."""
        self._configure(ResourceType.GROUP, self.kafka.group_id, configuration)

    def _configure(self, kind: ResourceType, name: str, configuration: dict[str, str]) -> None:
        resource = ConfigResource(
            kind,
            name,
            incremental_configs=[
                ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
                for key, value in configuration.items()
            ],
        )
        self.admin.incremental_alter_configs([resource])[resource].result(HANG_S)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                await asyncio.sleep(0.02)


@pytest.fixture
def new_bench(kafka_settings: Callable[..., KafkaSettings]) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**changes: object) -> Bench:
        benches.append(Bench(kafka_settings(**{"partitions": 2, "publish_retry_max_s": 0.5, **changes})))
        return benches[-1]

    yield make
    for bench in benches:
        for reader in bench.readers:
            reader.close()
