"""Kafka's error codes, by what the worker must do next."""
# ruff: noqa: SLF001 - librdkafka's local codes have no public spelling

from confluent_kafka import KafkaError

from schemas.replies import ReplyRefusal
from worker.errors import FatalError, PoisonError, TransientError, WorkerError

_NOT_ALLOWED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
    }
)

NOT_LET_IN = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
"""The broker refuses our name or password, or we its certificate: trying again would not help."""

# By TLS 1.3 the broker refuses our certificate after the handshake: to librdkafka (2.16) a connection that was lost.
TLS_ALERT = "SSL alert number"

CONSUMER_FATAL = _NOT_ALLOWED | {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._FATAL,
    KafkaError.FENCED_INSTANCE_ID,
}
"""The consumer can't go on."""

PRODUCER_FATAL = _NOT_ALLOWED | {
    KafkaError._FATAL,
    KafkaError._FENCED,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
}
"""No later try of this producer can succeed."""

FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
"""How a newer process with the same transactional.id, or the broker's own timeout, shows."""

UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
"""The topic is not there, or this client does not know yet that it is."""

NOT_FOR_US = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TOPIC_EXCEPTION})
"""The topic is not one that we may write to."""

DESCRIBES_NOTHING = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)
"""The broker does not tell us about its topics, now or later."""

UNANSWERED = frozenset(
    {
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._ALL_BROKERS_DOWN,
    }
)
"""No broker has answered a look-up, or none that knows: asked again, it may."""

REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE: "answer_too_large",
    KafkaError.RECORD_LIST_TOO_LARGE: "answer_too_large",
    KafkaError.INVALID_RECORD: "answer_refused",
}
"""The record's own fault, to the reason of its dead letter."""

PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
"""Dropped unsent with the transaction it belonged to."""

GROUP_MOVED_ON = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
    }
)
"""The group is between two generations, or this member is behind it."""

COMMIT_LATER = GROUP_MOVED_ON | {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError._STATE,
    KafkaError._DESTROY,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._NO_OFFSET,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""Retried at the next cadence, the coordinator being away or moving: the prefix only grows meanwhile.

A topic that is being made anew is not there for a moment; one that stays away is what the consumer says.
"""

LEADER_MOVING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,
    }
)
"""The partition is between two leaders, or new: it has one in a moment."""


def keeps_us_out(error: KafkaError) -> bool:
    """Whether the broker refuses our name, password, token or certificate, or we its certificate."""
    return error.code() in NOT_LET_IN or TLS_ALERT in error.str()


def reply_refusal(error: KafkaError) -> ReplyRefusal | None:
    """Return why a topic that an event named takes no reply; None: it may take it later, or the record is at fault.

    The event's own harm, and nobody else's: a topic of the settings would stop its partitions, or the worker.
    """
    if error.code() in UNKNOWN_TOPIC:
        return ReplyRefusal.NOT_THERE
    return ReplyRefusal.NOT_WRITABLE if error.code() in NOT_FOR_US else None


def publish_failure(error: KafkaError, topic: str, *, asked_for: bool = False) -> WorkerError:
    """Return what must be done about a record the broker did not take.

    ``asked_for``: an event named the topic. The reason is a ``ReplyRefusal`` then where the topic is to blame.
    """
    text = f"Kafka did not take a record for topic {topic}: {error.name()}: {error.str()}"
    refusal = reply_refusal(error) if asked_for else None
    if refusal is not None:
        return PoisonError(refusal, text)
    if error.code() in REFUSED:
        return PoisonError(REFUSED[error.code()], text)
    if error.fatal() or error.code() in PRODUCER_FATAL:
        return FatalError(text)
    return TransientError(text)
