"""The topics the worker lives on: looked at, created, or missed with a clear word."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigEntry, ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from worker.errors import FatalError, TransientError
from worker.kafka.codes import LEADER_MOVING, keeps_us_out
from worker.kafka.config import common_config
from worker.resilience.retry import RetryPolicy
from worker.settings import KafkaSettings

# Between two looks for a refusal, which a request that waits for a connection does not end for.
LOOK_S = 1.0
RETRY_S = 0.05
LEADER_RETRY_S = 0.2
# For what is good to know and not needed: librdkafka's own broker, for one, never tells a topic's configuration.
TELLING_S = 5.0

MAX_MESSAGE_BYTES = "max.message.bytes"
# What a dead letter is larger by than its event: its headers, 0.7 kB as a rule and never as much as this.
DEAD_LETTER_ROOM = 4_096

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker describes it; ``partitions`` is 0 where it is missing."""

    name: str
    partitions: int
    replicas: int


def worker_topics(kafka: KafkaSettings) -> tuple[str, ...]:
    """Return the query, answer and dead-letter topics, in this order, and that of early contexts if there is one."""
    early = () if kafka.contexts_topic is None else (kafka.contexts_topic,)
    return (kafka.query_topic, kafka.answer_topic, kafka.dead_letter_topic, *early)


def index_topics(kafka: KafkaSettings) -> tuple[str, str]:
    """Return the topics of the live index, whose settings are those ``for_documents``: documents, dead letters."""
    return (kafka.query_topic, kafka.dead_letter_topic)


def describe(kafka: KafkaSettings, names: Sequence[str] | None = None) -> list[TopicInfo]:
    """Return the worker's topics, or those of ``names``.

    Blocks up to ``startup_timeout_s``; FatalError if no broker answers or lets us in.
    """
    return _Cluster(kafka, names).describe()


def ensure(kafka: KafkaSettings, *, create: bool, names: Sequence[str] | None = None) -> list[TopicInfo]:
    """Return the worker's topics, or those of ``names``, all of them there: creates what is missing if ``create``.

    Blocks up to twice ``startup_timeout_s``. FatalError if no broker answers or a topic is missing and not created.
    """
    cluster = _Cluster(kafka, names)
    found = cluster.describe()
    missing = [topic.name for topic in found if topic.partitions == 0]
    if not missing:
        return found
    if not create:
        option = "" if names is None else " --documents"
        raise FatalError(
            f"missing Kafka topics at {kafka.bootstrap_servers}: {', '.join(missing)}. Create them with "
            f"`rerank-worker topics --create{option}`, or set RERANK_WORKER_KAFKA__CREATE_TOPICS=true"
        )
    # The dead-letter topic last, for what it must take depends on what the query topic does.
    _create(cluster.admin, [name for name in missing if name != kafka.dead_letter_topic], kafka)
    if kafka.dead_letter_topic in missing:
        _create_dead_letter_topic(cluster.admin, kafka)
    return _await_created(cluster, kafka)


def warn_if_dead_letters_may_not_fit(kafka: KafkaSettings) -> None:
    """Say so if the dead-letter topic takes less than the query topic does; blocks up to ``TELLING_S``.

    Not refused: a record that does not fit is still set aside, by a note of where it stands.
    """
    topics = (kafka.query_topic, kafka.dead_letter_topic)
    taken, fits = _max_message_bytes(_Cluster(kafka).admin, topics, min(TELLING_S, kafka.startup_timeout_s))
    if taken is not None and fits is not None and fits < taken + DEAD_LETTER_ROOM:
        logger.warning(
            "the largest events would not fit the dead-letter topic, which then gets a note of where they stand: "
            "raise its limit",
            query_topic_max_message_bytes=taken,
            dead_letter_topic_max_message_bytes=fits,
            command=f"kafka-configs.sh --bootstrap-server {kafka.bootstrap_servers} --alter --topic "
            f"{kafka.dead_letter_topic} --add-config {MAX_MESSAGE_BYTES}={2 * taken + DEAD_LETTER_ROOM}",
        )


def watermarks(consumer: Consumer, kafka: KafkaSettings, partition: TopicPartition) -> tuple[int, int]:
    """Return a partition's first offset and its end. Waits ``startup_timeout_s`` for one that is between two leaders.

    KafkaException if it still is after that, or for any other reason.
    """
    return RetryPolicy(LEADER_RETRY_S, LEADER_RETRY_S, retries=_leader_moves).run_blocking(
        lambda: consumer.get_watermark_offsets(partition, timeout=kafka.startup_timeout_s), left_s=_startup_time(kafka)
    )


def _leader_moves(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in LEADER_MOVING


class _Cluster:
    """The brokers, as far as they let us look."""

    def __init__(self, kafka: KafkaSettings, names: Sequence[str] | None = None) -> None:
        self._kafka = kafka
        self._names = worker_topics(kafka) if names is None else names
        self._refusal: KafkaError | None = None
        # Looking for a topic must not make it.
        config = common_config(kafka) | {"error_cb": self._on_error, "allow.auto.create.topics": False}
        try:
            self.admin = AdminClient(config)
        except KafkaException as error:
            # A key that is not the certificate's, a wrong password of it, an option that does not exist.
            raise FatalError(f"no Kafka client can be made with these settings: {_reason(error)}") from error

    def describe(self) -> list[TopicInfo]:
        """Return the topics; FatalError if no broker answers, lets us in or shows us one of them."""
        known = self._metadata(None).topics
        infos = []
        for name in self._names:
            # A topic that may not be seen is left out of the whole list, and told apart when it is asked for.
            described = known[name] if name in known else self._metadata(name).topics[name]
            if described.error is not None and described.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise FatalError(f"Kafka at {self._kafka.bootstrap_servers} does not show topic {name}: grant Describe")
            partitions = {} if described.error is not None else described.partitions
            replicas = min((len(partition.replicas) for partition in partitions.values()), default=0)
            infos.append(TopicInfo(name, len(partitions), replicas))
        return infos

    def _metadata(self, topic: str | None) -> ClusterMetadata:
        kafka = self._kafka
        policy = RetryPolicy(RETRY_S, RETRY_S, retries=lambda error: isinstance(error, KafkaException))
        try:
            return policy.run_blocking(lambda: self._metadata_once(topic), left_s=_startup_time(kafka))
        except KafkaException as error:
            raise FatalError(
                f"no Kafka broker answered at {kafka.bootstrap_servers} within {kafka.startup_timeout_s:g} s "
                f"({_reason(error)}); check RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS and its security settings"
            ) from error

    def _metadata_once(self, topic: str | None) -> ClusterMetadata:
        try:
            # The client takes no None here, only nothing.
            asked = {} if topic is None else {"topic": topic}
            return self.admin.list_topics(timeout=min(LOOK_S, self._kafka.startup_timeout_s), **asked)
        except KafkaException:
            self.admin.poll(0)
            if self._refusal is not None:
                raise FatalError(_refused(self._kafka, self._refusal)) from None
            raise

    def _on_error(self, error: KafkaError) -> None:
        if keeps_us_out(error):
            self._refusal = error


def _create_dead_letter_topic(admin: AdminClient, kafka: KafkaSettings) -> None:
    [limit] = _max_message_bytes(admin, [kafka.query_topic], kafka.startup_timeout_s)
    if limit is not None:
        try:
            # What came in compressed goes out as this worker compresses: twice is room for that, too.
            _create(admin, [kafka.dead_letter_topic], kafka, {MAX_MESSAGE_BYTES: str(2 * limit + DEAD_LETTER_ROOM)})
        except FatalError as error:
            # Some providers leave this limit to nobody.
            logger.info("the dead-letter topic gets the broker's own size limit", reason=str(error))
        else:
            return
    _create(admin, [kafka.dead_letter_topic], kafka)


def _max_message_bytes(admin: AdminClient, topics: Sequence[str], timeout_s: float) -> list[int | None]:
    """Return the largest batch each topic takes; None where the broker does not tell, or not in time."""
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    described = admin.describe_configs(resources, request_timeout=timeout_s)
    return [_limit(described[resource], resource.name, timeout_s) for resource in resources]


def _limit(described: "Future[dict[str, ConfigEntry]]", topic: str, timeout_s: float) -> int | None:
    try:
        return int(described.result(timeout_s)[MAX_MESSAGE_BYTES].value or "")
    except (KafkaException, TimeoutError, KeyError, TypeError, ValueError) as error:
        # Telling needs DescribeConfigs on the topic, which a worker needs for nothing else.
        logger.info("the broker does not tell how large a topic's records may be", topic=topic, reason=repr(error))
        return None


def _create(
    admin: AdminClient, names: Sequence[str], kafka: KafkaSettings, config: Mapping[str, str] | None = None
) -> None:
    if not names:
        return
    new = [NewTopic(name, kafka.partitions, kafka.replication_factor, config=dict(config or {})) for name in names]
    created: dict[str, Future[None]] = admin.create_topics(new, operation_timeout=kafka.startup_timeout_s)
    for name, future in created.items():
        try:
            future.result(timeout=kafka.startup_timeout_s)
        except KafkaException as error:
            # Another worker starting at the same moment may have been faster.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise FatalError(f"could not create Kafka topic {name}: {_reason(error)}") from error
        except TimeoutError as error:
            raise FatalError(f"creating Kafka topic {name} took over {kafka.startup_timeout_s:g} s") from error


def _await_created(cluster: _Cluster, kafka: KafkaSettings) -> list[TopicInfo]:
    def complete() -> list[TopicInfo]:
        topics = cluster.describe()
        if any(topic.partitions == 0 for topic in topics):
            # A created topic takes a moment to reach every broker's metadata.
            raise TransientError("created Kafka topics have not appeared yet")
        return topics

    try:
        return RetryPolicy(RETRY_S, RETRY_S).run_blocking(complete, left_s=_startup_time(kafka))
    except TransientError as error:
        raise FatalError(f"created Kafka topics did not appear within {kafka.startup_timeout_s:g} s") from error


def _startup_time(kafka: KafkaSettings) -> Callable[[], float]:
    deadline_s = time.monotonic() + kafka.startup_timeout_s
    return lambda: deadline_s - time.monotonic()


def _refused(kafka: KafkaSettings, refusal: KafkaError) -> str:
    # OpenSSL does not say why a certificate could not be verified.
    hint = " (or a certificate has expired)" if refusal.code() == KafkaError._SSL else ""  # noqa: SLF001
    return f"no way into Kafka at {kafka.bootstrap_servers} with these security settings: {refusal.str()}{hint}"


def _reason(error: KafkaException) -> str:
    return str(error.args[0].str())
