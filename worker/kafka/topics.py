"""The topics the worker lives on: looked at, created, or missed with a clear word."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from worker.errors import FatalError
from worker.kafka.config import common_config
from worker.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker describes it; ``partitions`` is 0 where it is missing."""

    name: str
    partitions: int
    replicas: int


def worker_topics(kafka: KafkaSettings) -> tuple[str, str, str]:
    """Return the query, answer and dead-letter topics, in this order."""
    return (kafka.query_topic, kafka.answer_topic, kafka.dead_letter_topic)


def describe(kafka: KafkaSettings) -> list[TopicInfo]:
    """Return the worker's topics. Blocks up to ``startup_timeout_s``; FatalError if no broker answers."""
    return _describe(AdminClient(common_config(kafka)), kafka)


def ensure(kafka: KafkaSettings, *, create: bool) -> list[TopicInfo]:
    """Return the worker's topics, all of them there: creates what is missing if ``create``.

    Blocks up to twice ``startup_timeout_s``. FatalError if no broker answers or a topic is missing and not created.
    """
    admin = AdminClient(common_config(kafka))
    missing = [topic.name for topic in _describe(admin, kafka) if topic.partitions == 0]
    if missing and not create:
        raise FatalError(
            f"missing Kafka topics at {kafka.bootstrap_servers}: {', '.join(missing)}. Create them with "
            "`rerank-worker topics --create`, or set RERANK_WORKER_KAFKA__CREATE_TOPICS=true"
        )
    if not missing:
        return _describe(admin, kafka)
    _create(admin, missing, kafka)
    return _await_created(admin, kafka)


def _describe(admin: AdminClient, kafka: KafkaSettings) -> list[TopicInfo]:
    try:
        known = admin.list_topics(timeout=kafka.startup_timeout_s).topics
    except KafkaException as error:
        raise FatalError(
            f"no Kafka broker answered at {kafka.bootstrap_servers} within {kafka.startup_timeout_s:g} s "
            f"({_reason(error)}); check RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS and its security settings"
        ) from error
    infos = []
    for name in worker_topics(kafka):
        partitions = known[name].partitions if name in known and known[name].error is None else {}
        infos.append(TopicInfo(name, len(partitions), min((len(p.replicas) for p in partitions.values()), default=0)))
    return infos


def _create(admin: AdminClient, names: Sequence[str], kafka: KafkaSettings) -> None:
    new = [NewTopic(name, kafka.partitions, kafka.replication_factor) for name in names]
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


def _await_created(admin: AdminClient, kafka: KafkaSettings) -> list[TopicInfo]:
    # A created topic takes a moment to reach every broker's metadata.
    retrying = Retrying(
        stop=stop_after_delay(kafka.startup_timeout_s),
        wait=wait_fixed(0.05),
        retry=retry_if_result(lambda topics: any(topic.partitions == 0 for topic in topics)),
    )
    try:
        return retrying(_describe, admin, kafka)
    except RetryError as error:
        raise FatalError(f"created Kafka topics did not appear within {kafka.startup_timeout_s:g} s") from error


def _reason(error: KafkaException) -> str:
    return str(error.args[0].str())
