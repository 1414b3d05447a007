"""A producer for at least once: hands records over without waiting, and tells of each when the broker has it."""

import asyncio
import contextlib
import threading
from collections import deque

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.errors import FatalError, PoisonError, TransientError, WorkerError
from worker.kafka.codes import UNKNOWN_TOPIC, publish_failure
from worker.kafka.config import METADATA_TIMEOUT_S, Config, outcome_config, tell_error
from worker.kafka.deliver.outcome import Publication
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# How long the delivery thread sleeps when nothing happens: it wakes at once when a report arrives.
IDLE_POLL_S = 0.1


class IdempotentProducer:
    """Used on the loop's thread; ``start`` and ``close`` once each. No record waits for another one's failure."""

    def __init__(self, kafka: KafkaSettings, client_id: str | None = None) -> None:
        self._kafka = kafka
        self._config = outcome_config(kafka, client_id)
        self._together = ReportingProducer(self._config, kafka.delivery_timeout_s)
        self._alone: ReportingProducer | None = None

    def start(self) -> None:
        """Begin to serve delivery reports."""
        self._together.start()

    async def publish(self, publication: Publication) -> None:
        """Produce one record and return when every in-sync replica has it: up to ``delivery_timeout_s``.

        Raises PoisonError if the topic never takes this record, TransientError if it does not take it now, FatalError
        if this producer can't go on. A call that was cancelled or has failed may still be delivered.
        """
        try:
            await self._together.publish(publication)
        except PoisonError:
            # The broker refuses a batch as a whole: whose fault it was shows only when the record travels alone. (The
            # Java client splits such a batch, librdkafka does not.) Those beside it need not stop for that.
            await self._producer_of_one().publish(publication)

    async def close(self) -> None:
        """Deliver what is still queued, within ``delivery_timeout_s``, and join the threads."""
        producers = [each for each in (self._together, self._alone) if each is not None]
        left = sum(await asyncio.gather(*(each.close() for each in producers)))
        if left:
            logger.error("records not delivered at close; their queries will be answered again", records=left)

    def _producer_of_one(self) -> "ReportingProducer":
        if self._alone is None:
            self._alone = ReportingProducer(
                self._config | {"batch.num.messages": 1, "linger.ms": 0}, self._kafka.delivery_timeout_s
            )
            self._alone.start()
        return self._alone


class ReportingProducer:
    """One client of librdkafka, with the thread that serves its delivery reports."""

    def __init__(self, config: Config, close_timeout_s: float) -> None:
        self._close_timeout_s = close_timeout_s
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(config | {"error_cb": self._on_error})
        self._reports: deque[tuple[asyncio.Future[None], KafkaError | None, Publication]] = deque()
        self._broken: FatalError | None = None
        self._undelivered: set[asyncio.Future[None]] = set()
        self._unknown_topics: set[str] = set()
        self._look_ups: dict[str, asyncio.Task[None]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-producer", daemon=True)

    def start(self) -> None:
        """Begin to serve delivery reports."""
        self._thread.start()

    async def publish(self, publication: Publication) -> None:
        """Produce one record and return when it is acknowledged; raises as ``IdempotentProducer.publish``."""
        await self._look_up_again(publication.topic)
        await self._produce(publication)

    async def close(self) -> int:
        """Deliver what is still queued, and join the thread; return how many records were not delivered."""
        left = await asyncio.to_thread(self._producer.flush, self._close_timeout_s)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, self._close_timeout_s)
        return left

    def _produce(self, publication: Publication) -> asyncio.Future[None]:
        if self._broken is not None:
            raise self._broken
        delivered: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: Message) -> None:
            # Runs on the delivery thread, inside poll(): collected there and handed over once per poll.
            self._reports.append((delivered, error, publication))

        try:
            self._producer.produce(
                publication.topic,
                partition=publication.partition,
                key=publication.key,
                value=publication.value,
                headers=list(publication.headers),
                on_delivery=report,
            )
        except KafkaException as error:
            raise self._failure(error.args[0], publication) from error
        except BufferError as error:
            raise TransientError(
                "the producer's queue is full; raise `queue.buffering.max.messages` or lower max_in_flight"
            ) from error
        self._undelivered.add(delivered)
        delivered.add_done_callback(self._undelivered.discard)
        return delivered

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
            delivered, error, publication = self._reports.popleft()
            if delivered.done():
                continue
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(self._failure(error, publication))

    def _failure(self, error: KafkaError, publication: Publication) -> WorkerError:
        if error.code() in UNKNOWN_TOPIC:
            self._unknown_topics.add(publication.topic)
        return publish_failure(error, publication.topic, asked_for=publication.asked_for)

    async def _look_up_again(self, topic: str) -> None:
        # librdkafka asks for a topic that was missing only every few minutes, so one that was created since would
        # stay unknown for as long. One record asks for all of its topic, and those of other topics do not wait for it.
        if topic in self._unknown_topics:
            self._unknown_topics.discard(topic)
            self._look_ups[topic] = look_up = self._loop.create_task(self._look_up(topic))
            look_up.add_done_callback(lambda _: self._look_ups.pop(topic, None))
        if topic in self._look_ups:
            await asyncio.wait({self._look_ups[topic]})

    async def _look_up(self, topic: str) -> None:
        with contextlib.suppress(KafkaException):
            await asyncio.to_thread(self._producer.list_topics, topic, METADATA_TIMEOUT_S)

    def _on_error(self, error: KafkaError) -> None:
        tell_error("kafka producer error", error)
