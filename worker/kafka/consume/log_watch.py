"""Whether an offset is of the log that is read: the topic's id, asked for on a beat and compared with what was noted.

A topic that is deleted and made again keeps its name. The client goes on at its offset, and learns that this is nothing
of the new log only where it is beyond its end (librdkafka 2.16, `rd_kafka_topic_metadata_update`: "an offset reset must
be triggered"). One that has outgrown the offset would be read from its middle, and what stands before lost.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._cluster import DescribeClusterResult
from confluent_kafka.admin._topic import TopicDescription

from worker.kafka.codes import DESCRIBES_NOTHING
from worker.kafka.config import common_config
from worker.kafka.consume.offsets import Lease, LogId, Partition
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# How long a topic made again goes unnoticed: what is read of it meanwhile is read twice.
INTERVAL_S = 5.0
REQUEST_TIMEOUT_S = 5.0
# What is not answered is asked again after this long; until then nothing new is fetched.
RETRY_S = 0.5
# Who has not been told an id for this long, and never was, has brokers that tell all but that. Long, for busy ones: a
# commit without an id may be believed of the topic after its own.
PATIENCE_S = 10.0
# How long a look-up of committed offsets may hold up the poll. One round trip, where there is a coordinator.
COMMITTED_TIMEOUT_S = 1.0

NO_ID = LogId("", "")
"""Of brokers that tell all but that."""


@dataclass(frozen=True, slots=True)
class _Asked:
    topic: "Future[TopicDescription]"
    cluster: "Future[DescribeClusterResult]"

    @property
    def answered(self) -> bool:
        return self.topic.done() and self.cluster.done()


class LogWatch:
    """Used on the consumer's thread, between two polls. It waits for committed offsets of new partitions alone.

    ``leases`` are those of the owned partitions. One without a log is new: it is not fetched before its committed
    offset is known to be of the topic that is there. ``on_made_again`` is called with the new leases of partitions that
    were read, ``after_assign_anew`` with those that have been assigned to the client anew, to begin elsewhere.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        client_id: str | None,
        leases: dict[Partition, Lease],
        *,
        on_made_again: Callable[[Mapping[Partition, Lease]], None],
        after_assign_anew: Callable[[Sequence[Partition]], None],
    ) -> None:
        self._kafka = kafka
        # What is wrong with the brokers is the consumer's to say.
        self._config = common_config(kafka, client_id) | {"log_level": 0}
        self._leases = leases
        self._on_made_again = on_made_again
        self._after_assign_anew = after_assign_anew
        self._admin: AdminClient | None = None
        self._asked: _Asked | None = None
        self.look_at_s = 0.0
        """On the monotonic clock: before this there is nothing for ``serve`` to do."""
        self._replaced: set[LogId] = set()
        self._known: LogId | None = None
        self._in_vain_since_s: float | None = None
        self.made_again = False
        """Whether the topic is another one than the client knows: it needs another client, which begins as after a
        start. This one may look for its partitions where the former ones were, for ever: it believes no leader of a
        lower epoch than it has seen (librdkafka 2.16)."""

    @property
    def unknown(self) -> frozenset[Partition]:
        """Partitions of which it is not known yet which log they read: they must not be fetched."""
        return frozenset(key for key, lease in self._leases.items() if lease.log is None)

    def ask_anew(self) -> None:
        """Ask at the next ``serve``, whatever is under way: its answer may be older than what was just assigned."""
        self._asked = None
        self.look_at_s = 0.0

    def look_again(self, partitions: Iterable[Partition]) -> None:
        """Do with these as with new ones: they were assigned to the client anew, to begin at their commits."""
        for partition in partitions:
            self._leases[partition].log = None
            self.ask_anew()

    def serve(self, consumer: Consumer) -> None:
        """Ask, or act on what has been answered. Call it before each poll once it is time."""
        if self._asked is None:
            try:
                self._asked = self._ask()
            except KafkaException as failure:
                # A client that gets no token for now can't be made: an outage of whoever gives them.
                logger.warning("the topic's id can't be asked for", reason=failure.args[0].str())
                self.look_at_s = time.monotonic() + RETRY_S
            return
        asked = self._asked
        if not asked.answered:
            return
        log = self._told(asked)
        # Else it is of a broker that has not heard of the new topic yet.
        if log is not None and log not in self._replaced:
            if log != NO_ID:
                self._compare(log)
            if unknown := self.unknown:
                self._identify(consumer, log, unknown)
        self._asked = None
        self.look_at_s = time.monotonic() + (RETRY_S if self.unknown else INTERVAL_S)

    def _ask(self) -> _Asked:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        topic = self._kafka.query_topic
        topics = self._admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_TIMEOUT_S)
        cluster = self._admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S)
        return _Asked(topics[topic], cluster)

    def _told(self, asked: _Asked) -> LogId | None:
        """Return the log that is there now, ``NO_ID`` where the brokers never say; None: ask again."""
        try:
            topic_id = asked.topic.result().topic_id
            cluster_id = asked.cluster.result().cluster_id or ""
        except KafkaException as failure:
            error = failure.args[0]
            # A broker that is away, a topic that is gone: nothing is known, so nothing changes.
            logger.debug("the brokers do not tell the topic's id", reason=error.str())
            self._give_up_client(error)
            return NO_ID if error.code() in DESCRIBES_NOTHING or self._asks_in_vain() else None
        # Brokers before 2.8 give none, and the client hands that out as zero.
        return NO_ID if str(topic_id) == str(Uuid(0, 0)) else LogId(cluster_id, str(topic_id))

    def _asks_in_vain(self) -> bool:
        if self._known is not None:
            return False
        now_s = time.monotonic()
        if self._in_vain_since_s is None:
            self._in_vain_since_s = now_s
        return now_s - self._in_vain_since_s > PATIENCE_S

    def _give_up_client(self, error: KafkaError) -> None:
        # A client whose broker was restarted was seen to ask in vain from then on, while others were answered.
        if error.code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - the only spelling
            self._admin = None

    def _compare(self, log: LogId) -> None:
        if self._known is not None and log.replaces(self._known):
            self._replaced.add(self._known)
            self.made_again = True
        self._known = log
        made_again: dict[Partition, Lease] = {}
        for key, lease in self._leases.items():
            if lease.log is not None and log.replaces(lease.log):
                self._replaced.add(lease.log)
                # On this thread and at once: nothing that was read of the former topic may be committed for this one.
                lease.end()
                made_again[key] = Lease(log)
            elif lease.log == NO_ID:
                lease.log = log
        if made_again:
            self._leases |= made_again
            logger.warning("the query topic was made again: read from its beginning", partitions=list(made_again))
            self._on_made_again(made_again)
            self.made_again = True

    def _identify(self, consumer: Consumer, log: LogId, partitions: Iterable[Partition]) -> None:
        try:
            # Not by the admin client: asked for a coordinator that moves, it ends the process (librdkafka#3663). As
            # the consumer reads what is committed alone, this waits for the transaction of a former owner too.
            found = consumer.committed(_topic_partitions(partitions), COMMITTED_TIMEOUT_S)
        except KafkaException as failure:
            logger.info("the group's offsets can't be had yet", reason=failure.args[0].str())
            return
        made_again: list[Partition] = []
        uncommitted: list[Partition] = []
        for at in found:
            if at.error is not None:
                continue
            key = (at.topic, at.partition)
            noted = LogId.from_metadata(at.metadata)
            # Where the topic's id is never told, the commit is taken at its word.
            lease = self._leases[key]
            lease.log = log if log != NO_ID or noted is None else noted
            if at.offset < 0:
                uncommitted.append(key)
            elif lease.log.replaces(noted):
                made_again.append(key)
        if made_again:
            logger.warning("the committed offsets are of a topic that was replaced by this one", partitions=made_again)
            self._begin(consumer, made_again, OFFSET_BEGINNING)
        # Kafka forgets commits with their topic: after it was made again none does not mean a new group.
        if uncommitted and self._kafka.auto_offset_reset == "latest" and not self._replaced:
            self._begin(consumer, uncommitted, OFFSET_END)

    def _begin(self, consumer: Consumer, partitions: Sequence[Partition], offset: int) -> None:
        # Not by a seek, which fails where fetching has not begun.
        consumer.incremental_unassign(_topic_partitions(partitions))
        consumer.incremental_assign(_topic_partitions(partitions, offset))
        self._after_assign_anew(partitions)


def _topic_partitions(partitions: Iterable[Partition], offset: int | None = None) -> list[TopicPartition]:
    if offset is None:
        return [TopicPartition(topic, number) for topic, number in partitions]
    return [TopicPartition(topic, number, offset) for topic, number in partitions]
