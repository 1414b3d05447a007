"""librdkafka configuration from our settings.

Whatever the delivery guarantee rests on is set last, so that no passthrough option can weaken it.
"""

import logging
import re
from typing import Any

import structlog
from confluent_kafka import KafkaError

from worker.kafka.security import security_config
from worker.settings import KafkaSettings
from worker.telemetry.repeats import Repeats

logger = logging.getLogger("librdkafka")
events = structlog.get_logger()


def _concerns_nobody(record: logging.LogRecord) -> bool:
    # Options of a user go to consumer and producer alike; each warns of those that are the other's.
    message = record.getMessage()
    return (
        "CONFWARN" in message
        and re.search(r"is a (producer|consumer) property and will be ignored", message) is not None
    )


logger.addFilter(lambda record: not _concerns_nobody(record))
# Of a broker that is away it tells at every attempt, some twenty a second while a worker looks for its topics.
REPEATS_S = 10.0
logger.addFilter(Repeats(REPEATS_S))

_told_errors = Repeats(REPEATS_S)

Config = dict[str, Any]

COMMAND_CLIENT_ID = "rerank-worker-command"

# Asking for a topic is one round trip; a broker that is away is asked again with the next try.
METADATA_TIMEOUT_S = 5.0

# As Kafka itself has it. A member hears of a rebalance with its next heartbeat: at a third of the default session,
# partitions that moved to a new worker had no owner for 15 s.
HEARTBEAT_MS = 3_000


def tell_error(event: str, error: KafkaError) -> None:
    """Log what a client's error callback was given, unless it has just said the same. Any thread may call it."""
    kept_back = _told_errors.kept_back(f"{event} {error.str()}")
    if kept_back is not None:
        events.warning(event, code=error.name(), reason=error.str(), kept_back=kept_back)


def common_config(kafka: KafkaSettings, client_id: str | None = None) -> Config:
    """Return how to reach the broker: shared by consumer, producer and admin client.

    ``client_id`` is how brokers and their tools call this client, a worker's its ``worker_id``; None: a command.
    """
    config: Config = {**kafka.client_options, "bootstrap.servers": kafka.bootstrap_servers, "logger": logger}
    config.setdefault("client.id", COMMAND_CLIENT_ID if client_id is None else client_id)
    return config | security_config(kafka)


def consumer_config(kafka: KafkaSettings, client_id: str | None = None) -> Config:
    """Return a consumer that never commits by itself and hands partitions over one by one."""
    config = common_config(kafka, client_id) | {
        "group.id": kafka.group_id,
        "group.protocol": kafka.group_protocol,
        # Where a group without commits begins is said for each partition (see LogWatch). Wherever else the client
        # asks, its offset is not in the log any more: at the end it would pass over what is.
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "max.poll.interval.ms": int(kafka.max_poll_interval_s * 1000),
        "allow.auto.create.topics": False,
        # Behind transactions only this tells that a partition is read up: their markers are never handed out.
        "enable.partition.eof": True,
    }
    config.setdefault("statistics.interval.ms", 5_000)
    if kafka.group_instance_id is not None:
        config["group.instance.id"] = kafka.group_instance_id
    if kafka.group_protocol == "classic":
        # With KIP-848 these are the broker's to decide, and librdkafka refuses to start with them.
        session_ms = int(kafka.session_timeout_s * 1000)
        config |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": min(HEARTBEAT_MS, session_ms // 3),
        }
    return config


def producer_config(kafka: KafkaSettings, client_id: str | None = None) -> Config:
    """Return a producer whose acknowledgement means that every in-sync replica has the record, once."""
    config = common_config(kafka, client_id) | {
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": int(kafka.delivery_timeout_s * 1000),
        # A topic that is missing is told, not made up with the broker's defaults.
        "allow.auto.create.topics": False,
    }
    # An answer waits for nobody: at the default of 5 ms, batching would be most of a fast query's latency.
    config.setdefault("linger.ms", 1)
    # Set as options of the client, they count: that was the way before there were settings for them.
    if not config.keys() & {"compression.type", "compression.codec"}:
        config["compression.type"] = kafka.compression
        if kafka.compression == "gzip":
            # A third of the time of zlib's own level, and a tenth more bytes: with that, an answer of 4 kB took the
            # processor longer to compress than its query's pairs to be tokenised.
            config.setdefault("compression.level", 1)
    config.setdefault("partitioner", kafka.partitioner)
    return config


def outcome_config(kafka: KafkaSettings, client_id: str | None = None) -> Config:
    """Return the producer of answers and dead letters, which may not be refused where their topic would take them."""
    config = producer_config(kafka, client_id)
    # What a record may weigh is the topic's to say: at the client's limit of 1 MB, an event that came in with more
    # could never be dead-lettered.
    config.setdefault("message.max.bytes", 100_000_000)
    # How long a topic that is not there counts as just created elsewhere; 30 s of silence by default.
    config.setdefault("topic.metadata.propagation.max.ms", 5_000)
    return config


def best_effort_config(kafka: KafkaSettings, client_id: str | None = None) -> Config:
    """Return a producer of records that may be lost, which nothing that befalls them ends."""
    return outcome_config(kafka, client_id) | {
        # An idempotent producer gives up for good once it can't tell whether a record was taken.
        "enable.idempotence": False,
        "acks": 1,
    }


def transactional_config(kafka: KafkaSettings, transactional_id: str, client_id: str | None = None) -> Config:
    """Return a producer whose records count when its transaction commits."""
    timeout_ms = int(kafka.transaction_timeout_s * 1000)
    return outcome_config(kafka, client_id) | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timeout_ms,
        # librdkafka refuses a record that could outlive its transaction.
        "delivery.timeout.ms": min(int(kafka.delivery_timeout_s * 1000), timeout_ms),
        # A connection lost while offsets are on their way leaves librdkafka waiting, past any timeout, for some
        # connection to change its state (librdkafka#5456). Nothing else is sent meanwhile, so this makes one change.
        "connections.max.idle.ms": 5_000,
    }
