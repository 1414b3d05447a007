"""Where an asker wants its reply: the headers `reply-topic` and Spring's names for it.

A query names a topic; whether anything is written there is the operator's to say (`kafka.reply_topics`), never the
producer's.
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.wire import REPLY_TOPIC, Headers

SPRING_REPLY_TOPIC = "kafka_replyTopic"
SPRING_REPLY_PARTITION = "kafka_replyPartition"

REPLY_REFUSED = "reply.refused"
"""Header of an answer on the answer topic whose query had named another one: why it is not there."""

_PARTITION_BYTES = 4


class ReplyRefusal(StrEnum):
    """Why a reply does not go to the topic its query names: the values of `reply.refused`."""

    NOT_ALLOWED = "not_allowed"
    """It is not among the topics the operator allows, or no topic's name at all."""
    NOT_THERE = "not_there"
    """There is no such topic."""
    NOT_WRITABLE = "not_writable"
    """The broker does not let the worker write to it."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where a reply is wanted."""

    topic: str
    partition: int | None = None
    """None: where the query's key leads."""


def reply_to(headers: Headers) -> ReplyTo | None:
    """Return where a query's headers want its reply; None if they name no topic.

    `reply-topic` counts before Spring's name, names in any case, of one that repeats the last. Null and empty are
    absent. Bytes that are not UTF-8 are kept as a name that no topic has: somebody waits there, and is refused. A
    partition that is not 4 bytes, big-endian and from 0 up is absent.
    """
    last = {name.lower(): value for name, value in headers}
    name = last.get(REPLY_TOPIC.lower()) or last.get(SPRING_REPLY_TOPIC.lower())
    if not name:
        return None
    return ReplyTo(name.decode(errors="replace"), _partition(last.get(SPRING_REPLY_PARTITION.lower())))


def _partition(value: bytes | None) -> int | None:
    if value is None or len(value) != _PARTITION_BYTES:
        return None
    number = int.from_bytes(value, "big", signed=True)
    return number if number >= 0 else None
