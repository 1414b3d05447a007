"""Which topics replies may go to: those that the operator allows, that are there and that the worker may write to.

Looked up before anything is produced: a record for a topic that is not there would wait for it to appear, and in a
transaction everything beside it would wait too. So a producer that makes up names spoils its own replies alone.
"""

import asyncio

import structlog
from cachetools import TTLCache
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._topic import TopicDescription

from schemas.replies import ReplyRefusal, ReplyTo
from worker.kafka.codes import reply_refusal
from worker.kafka.config import METADATA_TIMEOUT_S, common_config
from worker.settings import KafkaSettings
from worker.settings.rules import TOPIC_NAME

logger = structlog.get_logger()

# How long what the broker said of a topic holds: one that was made or granted since is refused for no longer.
REMEMBERED_S = 30.0
REMEMBERED_TOPICS = 1_024
# A topic that was made right before it is named may be unknown to the broker that is asked: it is asked again, once.
SECOND_LOOK_S = 1.0

INTERNAL = "__"
"""How the names of Kafka's own topics begin."""

Found = int | ReplyRefusal | None
"""The partitions of a topic, or why it takes no reply; None: the broker did not tell."""


class ReplyTopics:
    """Used on the loop's thread. Without topics in the settings it allows none and asks no broker."""

    def __init__(self, kafka: KafkaSettings, client_id: str | None = None) -> None:
        own = {kafka.query_topic, kafka.dead_letter_topic}
        self._names = {name for name in kafka.reply_topics if not name.endswith("*")} - own
        self._beginnings = tuple(name.removesuffix("*") for name in kafka.reply_topics if name.endswith("*"))
        self._own = own
        self._admin = AdminClient(common_config(kafka, client_id)) if kafka.reply_topics else None
        self._found: TTLCache[str, Found] = TTLCache(REMEMBERED_TOPICS, REMEMBERED_S)
        self._look_ups: dict[str, asyncio.Task[Found]] = {}

    def allows(self, topic: str) -> bool:
        """Whether the operator lets replies go there. By its name alone."""
        if topic in self._own or topic.startswith(INTERNAL) or not TOPIC_NAME.fullmatch(topic):
            return False
        return topic in self._names or topic.startswith(self._beginnings)

    async def resolve(self, asked: ReplyTo) -> ReplyTo | ReplyRefusal:
        """Return where a reply goes, or why it does not go where it is wanted.

        A partition the topic does not have is left out. Waits for the broker a few seconds at most; one that does not
        tell leaves the topic to be tried. Raises nothing.
        """
        if not self.allows(asked.topic):
            return ReplyRefusal.NOT_ALLOWED
        found = self._found.get(asked.topic)
        if found is None:
            found = await self._look_up(asked.topic)
        if isinstance(found, ReplyRefusal):
            return found
        is_there = asked.partition is not None and found is not None and asked.partition < found
        return ReplyTo(asked.topic, asked.partition if is_there else None)

    def refuse(self, topic: str, refusal: ReplyRefusal) -> None:
        """Take note that the broker has refused a record for this topic, whatever it said before."""
        if refusal is ReplyRefusal.NOT_THERE:
            # It may have been made anew, which only the broker knows.
            self._found.pop(topic, None)
        else:
            self._found[topic] = refusal

    async def _look_up(self, topic: str) -> Found:
        if topic not in self._look_ups:
            self._look_ups[topic] = asyncio.get_running_loop().create_task(self._ask_broker(topic))
            self._look_ups[topic].add_done_callback(lambda _: self._look_ups.pop(topic, None))
        # Many queries wait for one answer; one that is cancelled does not take it from the others.
        return await asyncio.shield(self._look_ups[topic])

    async def _ask_broker(self, topic: str) -> Found:
        found = await self._describe(topic)
        if found is ReplyRefusal.NOT_THERE:
            await asyncio.sleep(SECOND_LOOK_S)
            found = await self._describe(topic)
        if found is not None:
            self._found[topic] = found
        return found

    async def _describe(self, topic: str) -> Found:
        if self._admin is None:
            return ReplyRefusal.NOT_ALLOWED
        asked = self._admin.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=METADATA_TIMEOUT_S
        )
        try:
            described: TopicDescription = await asyncio.wrap_future(asked[topic])
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            refusal = reply_refusal(error)
            if refusal is None:
                logger.warning("a reply topic can't be looked up, so it is tried", topic=topic, reason=error.str())
            return refusal
        operations = described.authorized_operations
        # A broker that does not tell of rights leaves them to be tried.
        if operations and not {AclOperation.WRITE, AclOperation.ALL} & set(operations):
            return ReplyRefusal.NOT_WRITABLE
        return len(described.partitions)
