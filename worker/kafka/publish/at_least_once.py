"""At least once: an outcome is published until the broker has it; its offset is committed after that."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Mapping

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.kafka.codes import UNKNOWN_TOPIC, publish_failure
from worker.kafka.config import METADATA_TIMEOUT_S, outcome_config
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.source import Source
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition
from worker.resilience.retry import RetryPolicy
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# How long the delivery thread sleeps when nothing happens: it wakes at once when a report arrives.
IDLE_POLL_S = 0.1


class AtLeastOnce:
    """See ``Guarantee``."""

    def __init__(self, source: Source, producer: "IdempotentProducer", policy: RetryPolicy) -> None:
        self._source = source
        self._producer = producer
        self._policy = policy

    async def start(self) -> None:
        """Start the producer; see ``Guarantee``."""
        self._producer.start()

    async def deliver(self, partition: AssignedPartition, position: Position, publication: Publication) -> None:
        """Publish until the broker has it, however long that takes; see ``Guarantee``."""
        await partition.await_publish_order(position)
        await self._policy.run(
            lambda: self._publish(publication),
            on_retry=lambda error, _failures, _pause_s: partition.stop(position, str(error)),
        )
        partition.go_on(position)
        partition.complete(position)

    async def _publish(self, publication: Publication) -> None:
        try:
            await self._producer.publish(publication)
        except PoisonError as error:
            instead = publication.refused(error)
            if instead is None:
                raise TransientError(f"nothing is skipped, so this partition waits: {error}") from error
            await self._publish(instead)
        else:
            publication.acknowledged()

    def commit(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Commit what is completed; see ``Guarantee``."""
        self._source.commit(_uncommitted(assigned))

    async def revoke(self, leaving: Mapping[Partition, AssignedPartition]) -> Mapping[Partition, CompletedPrefix]:
        """Leave the last commit to the source; see ``Guarantee``."""
        return {key: partition.prefix for key, partition in leaving.items()}

    async def commit_final(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Commit for the last time; see ``Guarantee``."""
        await self._source.commit_now(_uncommitted(assigned))

    async def close(self) -> None:
        """Deliver what is queued; see ``Guarantee``."""
        await self._producer.close()


def _uncommitted(assigned: Mapping[Partition, AssignedPartition]) -> dict[Partition, CompletedPrefix]:
    return {key: each.prefix for key, each in assigned.items() if each.prefix.to_commit is not None}


class IdempotentProducer:
    """Hands records over without waiting, and tells when the broker has them.

    Used on the loop's thread; ``start`` and ``close`` once each.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(outcome_config(kafka) | {"error_cb": self._on_error})
        self._reports: deque[tuple[asyncio.Future[None], KafkaError | None, str]] = deque()
        self._broken: FatalError | None = None
        self._undelivered: set[asyncio.Future[None]] = set()
        self._lock = asyncio.Lock()
        self._unknown_topics: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-producer", daemon=True)

    def start(self) -> None:
        """Begin to serve delivery reports."""
        self._thread.start()

    async def publish(self, publication: Publication) -> None:
        """Produce one record and return when every in-sync replica has it: up to ``delivery_timeout_s``.

        Raises PoisonError if the topic never takes this record, TransientError if it does not take it now, FatalError
        if this producer can't go on. A call that was cancelled or has failed may still be delivered.
        """
        async with self._lock:
            await self._look_up_again(publication.topic)
            delivered = self._produce(publication)
        try:
            await delivered
        except PoisonError:
            await self._publish_alone(publication)

    async def _publish_alone(self, publication: Publication) -> None:
        # The broker refuses a batch as a whole: whose fault it was shows only when the record travels alone. (The Java
        # client splits such a batch, librdkafka does not.)
        async with self._lock:
            if self._undelivered:
                await asyncio.wait(self._undelivered)
            await self._produce(publication)

    def _produce(self, publication: Publication) -> asyncio.Future[None]:
        if self._broken is not None:
            raise self._broken
        delivered: asyncio.Future[None] = self._loop.create_future()
        topic = publication.topic

        def report(error: KafkaError | None, _message: Message) -> None:
            # Runs on the delivery thread, inside poll(): collected there and handed over once per poll.
            self._reports.append((delivered, error, topic))

        try:
            self._producer.produce(
                topic,
                key=publication.key,
                value=publication.value,
                headers=list(publication.headers),
                on_delivery=report,
            )
        except KafkaException as error:
            raise self._failure(error.args[0], topic) from error
        except BufferError as error:
            raise TransientError(
                "the producer's queue is full; raise `queue.buffering.max.messages` or lower max_in_flight"
            ) from error
        self._undelivered.add(delivered)
        delivered.add_done_callback(self._undelivered.discard)
        return delivered

    async def close(self) -> None:
        """Deliver what is still queued, within ``delivery_timeout_s``, and join the thread."""
        left = await asyncio.to_thread(self._producer.flush, self._kafka.delivery_timeout_s)
        if left:
            logger.error("records not delivered at close; their queries will be answered again", records=left)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, self._kafka.delivery_timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(IDLE_POLL_S)
            except (KafkaException, SystemError) as error:
                # A fatal error comes out of whatever serves callbacks; the reports it swallowed never come again.
                self._loop.call_soon_threadsafe(self._fail, FatalError(f"the Kafka producer can't go on: {error}"))
                return
            if self._reports:
                self._loop.call_soon_threadsafe(self._settle)

    def _fail(self, error: FatalError) -> None:
        self._broken = error
        for delivered in list(self._undelivered):
            if not delivered.done():
                delivered.set_exception(error)

    def _settle(self) -> None:
        while self._reports:
            delivered, error, topic = self._reports.popleft()
            if delivered.done():
                continue
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(self._failure(error, topic))

    def _failure(self, error: KafkaError, topic: str) -> WorkerError:
        if error.code() in UNKNOWN_TOPIC:
            self._unknown_topics.add(topic)
        return publish_failure(error, topic)

    async def _look_up_again(self, topic: str) -> None:
        # librdkafka asks for a topic that was missing only every few minutes, so one that was created since would
        # stay unknown for as long. One record asks for all of them: the others find the topic known, or fail.
        if topic in self._unknown_topics:
            self._unknown_topics.discard(topic)
            with contextlib.suppress(KafkaException):
                await asyncio.to_thread(self._producer.list_topics, topic, METADATA_TIMEOUT_S)

    def _on_error(self, error: KafkaError) -> None:
        logger.warning("kafka producer error", code=error.name(), reason=error.str())
