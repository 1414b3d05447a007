"""What a Kafka topic holds, read to its end: no test waits for a silence."""

import uuid

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from tests.patience import HANG_S
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

COORDINATOR_MOVES = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


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
    return sum(committed_offsets(AdminClient(common_config(kafka)), kafka))


def committed_offsets(admin: AdminClient, kafka: KafkaSettings) -> list[int]:
    """The group's committed offset of each partition, 0 where there is none; nothing while its coordinator moves.

    Asked as an administrator: a consumer takes most of a second to find the coordinator, and this is asked in loops.
    """
    partitions = [TopicPartition(kafka.query_topic, number) for number in range(kafka.partitions)]
    asked = ConsumerGroupTopicPartitions(kafka.group_id, partitions)
    try:
        found = admin.list_consumer_group_offsets([asked], request_timeout=HANG_S)[kafka.group_id].result(HANG_S)
    except KafkaException as error:
        # The group's coordinator is made with the first group.
        if error.args[0].code() not in COORDINATOR_MOVES:
            raise
        return []
    return [max(0, each.offset) for each in sorted(found.topic_partitions, key=lambda each: each.partition)]
