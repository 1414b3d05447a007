"""From the client to the loop: one poll's records and ends of partitions, and how the loop is called with them."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, Message

from worker.errors import FatalError
from worker.kafka.consume.offsets import Partition, Position
from worker.kafka.consume.records import Record, from_message, position_of
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# One batch at a time crosses to the loop, so that a pause decided there takes effect before the next poll. A loop
# that is busy for longer than this gets the next batch all the same: polling must go on.
HANDOVER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought, errors apart."""

    records: Sequence[Record]
    ends: Sequence[Position]
    """Of partitions read to their end: the last offset before it, which holds no record for us but one that has been
    handed over. Behind transactions it is a marker, or a record of one that was aborted."""


class Poller:
    """Used on the consumer's thread. ``left`` is what has left since it was cleared, whether it came back or not."""

    def __init__(self, kafka: KafkaSettings, left: set[Partition], on_error: Callable[[KafkaError], None]) -> None:
        self._kafka = kafka
        self._left = left
        self._on_error = on_error
        self._last: dict[Partition, int] = {}

    def poll(self, consumer: Consumer) -> Polled:
        """Wait ``poll_timeout_s`` for a message and take those that are there with it; callbacks are served within."""
        records: list[Record] = []
        ends: dict[Partition, Position] = {}
        for message in self._messages(consumer):
            error = message.error()
            if error is None:
                record = from_message(message)
                records.append(record)
                self._last[record.position.topic_partition] = record.position.offset
                # An end with a record behind it is none any more.
                ends.pop(record.position.topic_partition, None)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the only spelling
                self._take_end(position_of(message), ends)
            else:
                self._on_error(error)
        return Polled(records, list(ends.values()))

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Take note of an unassignment: what comes back may begin elsewhere."""
        for partition in partitions:
            self._last.pop(partition, None)

    def _messages(self, consumer: Consumer) -> Iterable[Message]:
        # consume(n, t) waits for n messages or all of t; poll() returns with the first one, the rest is then there.
        first = consumer.poll(self._kafka.poll_timeout_s)
        if first is None:
            return []
        if self._kafka.poll_batch == 1:
            return [first]
        self._left.clear()
        rest = consumer.consume(self._kafka.poll_batch - 1, timeout=0)
        # A rebalance served by consume() may have taken the partition of the message poll() had returned.
        return rest if _partition(first) in self._left else [first, *rest]

    def _take_end(self, end: Position, ends: dict[Partition, Position]) -> None:
        last = Position(end.topic, end.partition, end.offset - 1, end.leader_epoch)
        # Without transactions it is the last record, and that is no news.
        if self._last.get(end.topic_partition) != last.offset:
            self._last[end.topic_partition] = last.offset
            ends[end.topic_partition] = last


class LoopCalls:
    """Has the loop called in the order things happened, and swallows no error.

    Built on the loop's thread, used on the consumer's.
    """

    def __init__(self, on_fatal: Callable[[FatalError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_fatal = on_fatal

    def tell(self, method: Callable[..., object], *args: object) -> None:
        """Have a method called on the loop; whatever it raises is fatal."""
        self._loop.call_soon_threadsafe(self._call, method, *args)

    def hand_over(self, take: Callable[[], None]) -> None:
        """Do as ``tell``, and return when it has been called or ``HANDOVER_TIMEOUT_S`` have passed."""
        taken = threading.Event()

        def called() -> None:
            try:
                take()
            finally:
                taken.set()

        self.tell(called)
        if not taken.wait(HANDOVER_TIMEOUT_S):
            logger.warning("the loop is busy: a batch was not taken in time", seconds=HANDOVER_TIMEOUT_S)

    def _call(self, method: Callable[..., object], *args: object) -> None:
        # Left to asyncio, an error would be logged, and what was handed over lost while later offsets are committed.
        try:
            method(*args)
        except Exception as error:
            logger.exception("internal error")
            self._on_fatal(FatalError(f"what Kafka's thread handed over was not taken: {error!r}"))


def _partition(message: Message) -> tuple[str | None, int | None]:
    return (message.topic(), message.partition())
