"""The producer: hands records over without waiting, and tells when the broker has them."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.errors import FatalError, PoisonError
from worker.kafka.config import producer_config
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# How long the delivery thread sleeps when nothing happens: it wakes at once when a report arrives.
IDLE_POLL_S = 0.1

Headers = Sequence[tuple[str, bytes | None]]


class Sink:
    """Publishes with an idempotent producer. Used on the loop's thread; ``start`` and ``close`` once each."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(producer_config(kafka) | {"error_cb": self._on_error})
        self._delivered: deque[tuple[asyncio.Future[None], KafkaError | None, str]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-sink", daemon=True)

    def start(self) -> None:
        """Begin to serve delivery reports."""
        self._thread.start()

    async def publish(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Produce one record and return when every in-sync replica has it.

        Waits up to ``delivery_timeout_s``, after which, as at any error that is not the record's own, it raises
        FatalError: nothing is lost, since the query's offset stays uncommitted. Raises PoisonError if the record is
        larger than the topic takes. A cancelled call may still be delivered.
        """
        delivered: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: Message) -> None:
            # Runs on the delivery thread, inside poll(): collected there and handed over once per poll.
            self._delivered.append((delivered, error, topic))

        try:
            self._producer.produce(topic, key=key, value=value, headers=list(headers), on_delivery=report)
        except KafkaException as error:
            raise _error(error.args[0], topic) from error
        except BufferError as error:
            raise FatalError(
                "the producer's queue is full; raise `queue.buffering.max.messages` or lower max_in_flight"
            ) from error
        await delivered

    async def close(self) -> None:
        """Deliver what is still queued, within ``delivery_timeout_s``, and join the thread."""
        left = await asyncio.to_thread(self._producer.flush, self._kafka.delivery_timeout_s)
        if left:
            logger.error("records not delivered at close; their queries will be answered again", records=left)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, self._kafka.delivery_timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(IDLE_POLL_S)
            if self._delivered:
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        while self._delivered:
            delivered, error, topic = self._delivered.popleft()
            if delivered.done():
                continue
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(_error(error, topic))

    def _on_error(self, error: KafkaError) -> None:
        logger.warning("kafka producer error", code=error.name(), reason=error.str())


def _error(error: KafkaError, topic: str) -> PoisonError | FatalError:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return PoisonError("answer_too_large", f"the record is larger than topic {topic} takes: {error.str()}")
    return FatalError(f"Kafka did not take a record for topic {topic}: {error.name()}: {error.str()}")
