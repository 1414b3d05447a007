"""What a Kafka topic holds, read to its end: no test waits for a silence."""

import uuid

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tests.patience import HANG_S
from worker.kafka.config import common_config
from worker.settings import KafkaSettings


def held(kafka: KafkaSettings, topic: str) -> list[Message]:
    """Everything that is in the topic now, but for what stands in open or aborted transactions."""
    consumer = Consumer(
        common_config(kafka)
        | {
            "group.id": f"reader-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # An end is told by a fetch that finds nothing: at once, and not after half a second.
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=HANG_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        messages: list[Message] = []
        read_up: set[int | None] = set()
        while len(read_up) < len(partitions):
            message = consumer.poll(HANG_S)
            assert message is not None
            error = message.error()
            if error is None:
                messages.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF
                read_up.add(message.partition())
        return messages
    finally:
        consumer.close()


def committed(kafka: KafkaSettings) -> int:
    """The sum of the group's committed offsets: how many records are done with."""
    consumer = Consumer(common_config(kafka) | {"group.id": kafka.group_id})
    try:
        wanted = [TopicPartition(kafka.query_topic, number) for number in range(kafka.partitions)]
        return sum(max(0, partition.offset) for partition in consumer.committed(wanted, timeout=HANG_S))
    finally:
        consumer.close()
