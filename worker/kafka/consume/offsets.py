"""What may be committed, and the committing of it: the completed prefix of each assigned partition, nothing else.

Queries finish out of order; Kafka knows one number per partition. Committing past an unfinished offset would lose
its query at the next restart, so only the longest run of finished offsets counts (compare ``partitionTracker`` in
Redpanda Connect). Commits are made on the thread that owns the consumer, of partitions that are still owned.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from worker.errors import FatalError
from worker.kafka.codes import COMMIT_LATER

logger = structlog.get_logger()

Partition = tuple[str, int]
"""Topic and number."""

# librdkafka answers a commit within socket.timeout.ms, 60 s, even when every broker is away. Without a timeout of
# our own, a lost answer would be the last commit ever.
COMMIT_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands: topic, partition, offset and the leader epoch it was read under, as one value."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int | None = None

    @property
    def topic_partition(self) -> Partition:
        """The partition, as a dictionary key."""
        return (self.topic, self.partition)


class CompletedPrefix:
    """Offsets of one assignment of one partition: tracked in order, completed in any order.

    Belongs to the loop thread. A partition that is revoked and comes back gets a new object, so that a late
    completion from the former assignment can't move the commit of the present one.
    """

    def __init__(self) -> None:
        self._unfinished: deque[tuple[Position, float]] = deque()
        self._finished: set[int] = set()
        self._last_tracked = -1
        self._completed: Position | None = None
        self.committed: Position | None = None
        """The last record whose offset this assignment has committed."""
        self.ended = False
        """Whether the partition has been taken away: checked where the commit is made."""

    def track(self, position: Position, *, now_s: float) -> None:
        """Begin with an offset. Gaps are fine (compaction, transaction markers); going back is a ValueError."""
        if position.offset <= self._last_tracked:
            raise ValueError(f"offset {position.offset} tracked after {self._last_tracked}")
        self._last_tracked = position.offset
        self._unfinished.append((position, now_s))

    def complete(self, position: Position) -> None:
        """Mark an offset's outcome as acknowledged by the broker; without effect once the assignment has ended."""
        if self.ended:
            return
        self._finished.add(position.offset)
        while self._unfinished and self._unfinished[0][0].offset in self._finished:
            self._completed, _ = self._unfinished.popleft()
            self._finished.discard(self._completed.offset)

    def end(self) -> None:
        """End the assignment (revoked or lost): from now on nothing here may be committed."""
        self.ended = True

    def mark_committed(self, position: Position) -> None:
        """Remember what the broker has taken, so that it is not committed again."""
        self.committed = position

    @property
    def to_commit(self) -> Position | None:
        """The last record of the completed prefix if it is not committed yet; the commit is its offset + 1."""
        return None if self._completed == self.committed else self._completed

    @property
    def pending(self) -> int:
        """Offsets tracked and not yet part of the prefix."""
        return len(self._unfinished)

    @property
    def oldest_since_s(self) -> float | None:
        """When the oldest unfinished offset was tracked; None if there is none."""
        return self._unfinished[0][1] if self._unfinished else None


_Committable = list[tuple[CompletedPrefix, Position]]


class Committer:
    """Commits for one consumer, all on the consumer's thread; what it is given to call must be safe to call there."""

    def __init__(
        self,
        on_committed: Callable[[CompletedPrefix, Position], None],
        on_ended: Callable[[], None],
        on_outcome: Callable[[str], None],
        on_fatal: Callable[[FatalError], None],
    ) -> None:
        self._on_committed = on_committed
        self._on_ended = on_ended
        self._on_outcome = on_outcome
        self._on_fatal = on_fatal
        self._under_way: _Committable = []
        self._of_revoked: list[_Committable] = []
        self._final: threading.Thread | None = None

    def commit(self, consumer: Consumer, prefixes: Mapping[Partition, CompletedPrefix]) -> None:
        """Send a commit and return at once; a later poll calls ``on_commit``. ``on_ended`` follows in any case."""
        self._under_way = _committable(prefixes)
        if not self._under_way:
            self._on_ended()
            return
        try:
            consumer.commit(offsets=_offsets(self._under_way), asynchronous=True)
        except KafkaException as error:
            self.on_commit(error.args[0], [])

    def commit_revoked(self, consumer: Consumer, prefixes: Mapping[Partition, CompletedPrefix]) -> None:
        """Send the last commit of partitions that are revoked, from the rebalance callback, and return at once.

        It need not be waited for: librdkafka sends it before it gives the partitions up, and the coordinator answers
        the requests of a connection in turn, so their next owner begins where this ends. Nor could it be: the client
        lets no other thread in while a poll is under way (confluent-kafka-python#2322), and on this one a coordinator
        that is away is waited for a minute. ``on_commit`` is called by a later poll.
        """
        committable = _committable(prefixes)
        if not committable:
            return
        self._of_revoked.append(committable)
        try:
            consumer.commit(offsets=_offsets(committable), asynchronous=True)
        except KafkaException as error:
            self.on_commit(error.args[0], _offsets(committable))

    def on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Take the broker's answer; never raises, since that would come out of poll() and again out of close()."""
        of_revoke = next((each for each in self._of_revoked if _same(_offsets(each), offsets)), None)
        if of_revoke is not None:
            answered = of_revoke
            self._of_revoked.remove(of_revoke)
        else:
            answered, self._under_way = self._under_way, []
            self._on_ended()
        try:
            self._settle(answered, error)
        except FatalError as fatal:
            self._on_fatal(fatal)

    def commit_final(self, consumer: Consumer, prefixes: Mapping[Partition, CompletedPrefix], timeout_s: float) -> None:
        """Commit and wait for the broker's answer, but no longer than this. FatalError if it refuses for good.

        Not from a callback: see ``commit_revoked``.
        """
        committable = _committable(prefixes)
        if not committable:
            return
        answer: Future[KafkaError | None] = Future()

        def commit() -> None:
            try:
                consumer.commit(offsets=_offsets(committable), asynchronous=False)
            except KafkaException as failure:
                answer.set_result(failure.args[0])
            else:
                answer.set_result(None)

        # librdkafka waits for a coordinator that is away for socket.timeout.ms, 60 s, and takes no other timeout.
        self._final = threading.Thread(target=commit, name="kafka-commit", daemon=True)
        self._final.start()
        try:
            error = answer.result(timeout_s)
        except TimeoutError:
            # Should it still arrive, it comes with the generation this member was in.
            logger.warning("the last commit was not answered in time; its queries will be answered again")
            return
        self._settle(committable, error)

    def close(self) -> None:
        """Wait for a commit that outlasted its timeout: the consumer may not be closed under it."""
        if self._final is not None:
            self._final.join(COMMIT_TIMEOUT_S)

    def _settle(self, answered: _Committable, error: KafkaError | None) -> None:
        if error is None:
            for prefix, position in answered:
                self._on_committed(prefix, position)
            self._on_outcome("ok")
        elif error.code() in COMMIT_LATER:
            logger.info("commit put off", reason=error.name())
            self._on_outcome("put_off")
        else:
            raise FatalError(f"Kafka refused an offset commit: {error.str()}")


def _committable(prefixes: Mapping[Partition, CompletedPrefix]) -> _Committable:
    # The coordinator accepts commits for partitions another member owns (redpanda-data/connect#4477): this check, on
    # the thread that runs the rebalance callbacks, is what makes such a commit impossible.
    return [
        (prefix, position)
        for prefix in prefixes.values()
        if not prefix.ended and (position := prefix.to_commit) is not None
    ]


def _same(some: list[TopicPartition], others: list[TopicPartition]) -> bool:
    # TopicPartition's own equality leaves the offset out.
    one, other = ({(at.topic, at.partition, at.offset) for at in each} for each in (some, others))
    return one == other


def _offsets(committable: _Committable) -> list[TopicPartition]:
    return [TopicPartition(at.topic, at.partition, at.offset + 1) for _, at in committable]
