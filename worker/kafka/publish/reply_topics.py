"""Which topics replies may go to: those that the operator allows, that are there and that the worker may write to.

Looked up before anything is produced: a record for a topic that is not there would wait for it to appear, and in a
transaction everything beside it would wait too. So a producer that makes up names spoils its own replies alone.
"""

import asyncio
from functools import partial

import structlog
from cachetools import TTLCache
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._topic import TopicDescription

from schemas.replies import ReplyRefusal, ReplyTo
from worker.errors import TransientError
from worker.kafka.codes import UNANSWERED, reply_refusal
from worker.kafka.config import METADATA_TIMEOUT_S, common_config
from worker.resilience.retry import RetryPolicy
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

# A broker that does not answer is asked again: nothing could be published meanwhile either.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0

Found = int | ReplyRefusal
"""The partitions of a topic, or why it takes no reply."""


class ReplyTopics:
    """Used on the loop's thread. Without topics in the settings it allows none and asks no broker."""

    def __init__(self, kafka: KafkaSettings, client_id: str | None = None) -> None:
        own = {kafka.query_topic, kafka.dead_letter_topic, kafka.contexts_topic}
        self._names = {name for name in kafka.reply_topics if not name.endswith("*")} - own
        self._beginnings = tuple(name.removesuffix("*") for name in kafka.reply_topics if name.endswith("*"))
        self._own = own
        # A record that may not be written is an error of its own, but not in a transaction: there it breaks the
        # producer, and with it the process. So it is tried only where it spoils nothing else.
        self._tries_unknown_rights = kafka.delivery_guarantee != "exactly_once"
        self._admin = AdminClient(common_config(kafka, client_id)) if kafka.reply_topics else None
        self._policy = RetryPolicy(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._found: TTLCache[str, Found] = TTLCache(REMEMBERED_TOPICS, REMEMBERED_S)
        self._look_ups: dict[str, asyncio.Task[Found]] = {}

    def allows(self, topic: str) -> bool:
        """Whether the operator lets replies go there. By its name alone."""
        if topic in self._own or topic.startswith(INTERNAL) or not TOPIC_NAME.fullmatch(topic):
            return False
        return topic in self._names or topic.startswith(self._beginnings)

    async def resolve(self, asked: ReplyTo) -> ReplyTo | ReplyRefusal:
        """Return where a reply goes, or why it does not go where it is wanted; raises nothing.

        A partition the topic does not have is left out. Waits for a broker that does not answer, for as long as that
        takes.
        """
        if not self.allows(asked.topic):
            return ReplyRefusal.NOT_ALLOWED
        found = self._found.get(asked.topic)
        if found is None:
            found = await self._look_up(asked.topic)
        if isinstance(found, ReplyRefusal):
            return found
        is_there = asked.partition is not None and asked.partition < found
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
        found = await self._policy.run(partial(self._describe, topic))
        if found is ReplyRefusal.NOT_THERE:
            await asyncio.sleep(SECOND_LOOK_S)
            found = await self._policy.run(partial(self._describe, topic))
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
            logger.warning("a reply topic can't be looked up", topic=topic, code=error.name(), reason=error.str())
            if error.code() in UNANSWERED:
                raise TransientError(error.str()) from failure
            return refusal or ReplyRefusal.NOT_WRITABLE
        # None where the broker does not tell of rights.
        operations = set(described.authorized_operations or ())
        if operations & {AclOperation.WRITE, AclOperation.ALL} or (not operations and self._tries_unknown_rights):
            return len(described.partitions)
        return ReplyRefusal.NOT_WRITABLE
