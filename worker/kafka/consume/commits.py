"""The committing of completed prefixes: on the thread that owns the consumer, of partitions that are still owned."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from worker.errors import FatalError
from worker.kafka.codes import COMMIT_LATER
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position, to_commit

logger = structlog.get_logger()

# librdkafka answers a commit within socket.timeout.ms, 60 s, even when every broker is away. Without a timeout of
# our own, a lost answer would be the last commit ever.
COMMIT_TIMEOUT_S = 90.0

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
        # Should the one before never have been answered, its answer may still come: it is told by its offsets.
        self._under_way = _committable(prefixes)
        if not self._under_way:
            self._on_ended()
            return
        try:
            consumer.commit(offsets=_offsets(self._under_way), asynchronous=True)
        except KafkaException as error:
            self.on_commit(error.args[0], _offsets(self._under_way))

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
        elif _same(_offsets(self._under_way), offsets):
            answered, self._under_way = self._under_way, []
            self._on_ended()
        else:
            logger.info("a commit was answered when it was no longer waited for")
            return
        try:
            self._settle(answered, error, offsets)
        except FatalError as fatal:
            self._on_fatal(fatal)

    def commit_final(self, consumer: Consumer, prefixes: Mapping[Partition, CompletedPrefix], timeout_s: float) -> None:
        """Commit and wait for the broker's answer, but no longer than this. FatalError if it refuses for good.

        Not from a callback: see ``commit_revoked``.
        """
        committable = _committable(prefixes)
        if not committable:
            return
        answer: Future[tuple[KafkaError | None, list[TopicPartition]]] = Future()

        def commit() -> None:
            try:
                committed = consumer.commit(offsets=_offsets(committable), asynchronous=False)
            except KafkaException as failure:
                answer.set_result((failure.args[0], []))
            else:
                answer.set_result((None, committed or []))

        # librdkafka waits for a coordinator that is away for socket.timeout.ms, 60 s, and takes no other timeout.
        self._final = threading.Thread(target=commit, name="kafka-commit", daemon=True)
        self._final.start()
        try:
            error, offsets = answer.result(timeout_s)
        except TimeoutError:
            # Should it still arrive, it comes with the generation this member was in.
            logger.warning("the last commit was not answered in time; its queries will be answered again")
            return
        self._settle(committable, error, offsets)

    def close(self) -> None:
        """Wait for a commit that outlasted its timeout: the consumer may not be closed under it."""
        if self._final is not None:
            self._final.join(COMMIT_TIMEOUT_S)

    def _settle(self, answered: _Committable, error: KafkaError | None, offsets: Sequence[TopicPartition] = ()) -> None:
        # The request may succeed and one of its partitions not: that one's error stands beside its offset alone.
        of_partition = {(at.topic, at.partition): at.error for at in offsets if at.error is not None}
        refused: KafkaError | None = None
        outcomes: set[str] = set()
        for prefix, position in answered:
            failure = error or of_partition.get(position.topic_partition)
            if failure is None:
                self._on_committed(prefix, position)
                outcomes.add("ok")
            elif failure.code() in COMMIT_LATER:
                outcomes.add("put_off")
                logger.info("commit put off", reason=failure.name(), partition=position.topic_partition)
            else:
                refused = failure
        for outcome in outcomes:
            self._on_outcome(outcome)
        if refused is not None:
            raise FatalError(f"Kafka refused an offset commit: {refused.str()}")


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
    return [to_commit(at, prefix.log) for prefix, at in committable]
