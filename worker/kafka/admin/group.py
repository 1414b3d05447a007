"""How far a consumer group has come, seen from outside: for people who wait for an answer, or for an index."""

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from worker.errors import TransientError
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

# Each of a few requests; whoever asks has already waited in vain.
REQUEST_TIMEOUT_S = 5.0


def describe_progress(kafka: KafkaSettings) -> str:
    """Say in one clause whether a worker runs and how many query events wait. Blocks for seconds; never raises."""
    try:
        members, (_, waiting) = _members(kafka), _progress(kafka)
    except (KafkaException, TimeoutError):
        return f"is a worker of the group {kafka.group_id!r} running (`rerank-worker run`), and the broker up?"
    if members == 0:
        return f"no worker is in the group {kafka.group_id!r}: start one with `rerank-worker run`"
    return (
        f"the group {kafka.group_id!r} has {members} worker(s) and {waiting} query event(s) not yet committed: "
        "wait longer, add workers, or see their logs"
    )


def lag(kafka: KafkaSettings) -> int | None:
    """Return how many events of its topic a group has not committed; None for a group that never committed one.

    Blocks for seconds. Raises TransientError if the brokers can't tell.
    """
    try:
        has_committed, waiting = _progress(kafka)
    except (KafkaException, TimeoutError) as error:
        raise TransientError(f"the brokers don't tell the offsets of the group {kafka.group_id!r}: {error}") from error
    return waiting if has_committed else None


def _members(kafka: KafkaSettings) -> int:
    admin = AdminClient(common_config(kafka))
    described = admin.describe_consumer_groups([kafka.group_id], request_timeout=REQUEST_TIMEOUT_S)
    return len(described[kafka.group_id].result(REQUEST_TIMEOUT_S).members)


def _progress(kafka: KafkaSettings) -> tuple[bool, int]:
    """Return whether the group has committed anything of its topic, and how many events it has not."""
    topic = kafka.query_topic
    # With the group's id, to ask for its offsets; without subscribing it never becomes a member.
    observer = Consumer(common_config(kafka) | {"group.id": kafka.group_id, "enable.auto.commit": False})
    try:
        found = observer.list_topics(topic, REQUEST_TIMEOUT_S).topics[topic].partitions
        committed = observer.committed([TopicPartition(topic, number) for number in found], REQUEST_TIMEOUT_S)
        left = sum(_left(observer, partition) for partition in committed)
        return any(partition.offset >= 0 for partition in committed), left
    finally:
        observer.close()


def _left(observer: Consumer, committed: TopicPartition) -> int:
    first, end = observer.get_watermark_offsets(committed, REQUEST_TIMEOUT_S)
    # A partition nobody has committed yet has a negative offset: everything in it waits.
    return end - max(committed.offset, first)
