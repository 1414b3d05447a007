"""Reading a topic from its beginning, or from a time on, to where it ends now. Blocking, for the command line."""

import time
import uuid
from collections.abc import Iterator
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from worker.errors import FatalError
from worker.kafka.admin.topics import describe, watermarks
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

POLL_S = 0.5


def read_whole(kafka: KafkaSettings, topic: str, *, since: datetime | None = None) -> Iterator[Message]:
    """Yield the records one of the worker's topics has now, oldest first within a partition.

    FatalError if the topic is missing, no broker answers within ``startup_timeout_s``, or reading breaks off.
    """
    # Looked up first: what is wrong with the settings is told in one line there.
    partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions_of(kafka, topic))]
    consumer = Consumer(
        # That a partition is read up is told by a fetch that finds nothing: at once, and not after half a second.
        {"fetch.wait.max.ms": 10}
        | common_config(kafka)
        | {
            # Obligatory, though nothing is joined or committed: assign() instead of subscribe().
            "group.id": f"rerank-worker-reader-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            # Transactions end in markers that are never delivered: only this tells that a partition is read up.
            "enable.partition.eof": True,
        }
    )
    try:
        # What comes while this goes on is not read: it could go on for ever.
        ends = _assign(consumer, kafka, partitions, since)
        deadline_s = time.monotonic() + kafka.startup_timeout_s
        while ends:
            message = consumer.poll(POLL_S)
            if message is None:
                if time.monotonic() > deadline_s:
                    raise FatalError(f"{topic} could not be read to its end: no broker answers")
                continue
            deadline_s = time.monotonic() + kafka.startup_timeout_s
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the only spelling
                raise FatalError(f"reading {topic} failed: {error.str()}")
            if error is not None or _offset(message) >= ends.get(message.partition(), 0):
                ends.pop(message.partition(), None)
            else:
                yield message
    except KafkaException as error:
        raise FatalError(f"reading {topic} failed: {error.args[0].str()}") from error
    finally:
        consumer.close()


def partitions_of(kafka: KafkaSettings, topic: str) -> int:
    """Return how many partitions one of the worker's topics has; FatalError if it is missing or no broker answers."""
    count = next(each.partitions for each in describe(kafka) if each.name == topic)
    if not count:
        raise FatalError(f"there is no topic {topic}; `rerank-worker topics --create` makes it")
    return count


def _assign(
    consumer: Consumer, kafka: KafkaSettings, partitions: list[TopicPartition], since: datetime | None
) -> dict[int | None, int]:
    """Begin reading at a time, or at the oldest; return where each partition that holds anything ends."""
    if since is not None:
        times = [TopicPartition(each.topic, each.partition, int(since.timestamp() * 1000)) for each in partitions]
        partitions = consumer.offsets_for_times(times, timeout=kafka.startup_timeout_s)
    ends: dict[int | None, int] = {}
    for partition in partitions:
        low, high = watermarks(consumer, kafka, partition)
        if high > low:
            ends[partition.partition] = high
    consumer.assign(partitions)
    return ends


def _offset(message: Message) -> int:
    return message.offset() or 0
