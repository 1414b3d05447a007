"""Which answer belongs to which commit, and what it means partition by partition."""

from confluent_kafka import KafkaError, TopicPartition

from worker.errors import FatalError
from worker.kafka.consume.commits import Committer
from worker.kafka.consume.offsets import CompletedPrefix, Position


class FakeConsumer:
    """Takes commits; the test answers them."""

    def __init__(self) -> None:
        self.commits: list[list[TopicPartition]] = []

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.commits.append(offsets)


class Commits:
    """A committer and what it told."""

    def __init__(self) -> None:
        self.committed: list[Position] = []
        self.ended = 0
        self.outcomes: set[str] = set()
        self.fatal: list[FatalError] = []
        self.committer = Committer(self._on_committed, self._on_ended, self.outcomes.add, self.fatal.append)
        self.consumer = FakeConsumer()

    def commit(self, *offsets: int) -> list[TopicPartition]:
        """Commit one offset of each partition, numbered from 0; return what was sent."""
        prefixes = {}
        for number, offset in enumerate(offsets):
            position = Position("queries", number, offset)
            prefix = prefixes["queries", number] = CompletedPrefix()
            prefix.track(position, now_s=0.0)
            prefix.complete(position)
        self.committer.commit(self.consumer, prefixes)  # type: ignore[arg-type]  # a fake
        return self.consumer.commits[-1]

    def _on_committed(self, prefix: CompletedPrefix, position: Position) -> None:
        prefix.mark_committed(position)
        self.committed.append(position)

    def _on_ended(self) -> None:
        self.ended += 1


def test_a_commit_that_the_broker_takes_for_one_partition_and_puts_off_for_another() -> None:
    commits = Commits()
    sent = commits.commit(4, 9)
    answer = [TopicPartition(one.topic, one.partition, one.offset) for one in sent]
    answer[1] = FailedPartition("queries", 1, 10, KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS))
    commits.committer.on_commit(None, answer)
    assert commits.committed == [Position("queries", 0, 4)]
    assert commits.ended == 1
    assert commits.outcomes == {"ok", "put_off"}
    assert commits.fatal == []


def test_a_commit_that_the_broker_refuses_for_one_partition_is_fatal() -> None:
    commits = Commits()
    commits.commit(4)
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    commits.committer.on_commit(None, [FailedPartition("queries", 0, 5, denied)])
    assert commits.committed == []
    assert commits.outcomes == set()
    assert len(commits.fatal) == 1


def test_a_late_answer_to_an_older_commit_is_not_taken_for_the_newer_one() -> None:
    commits = Commits()
    older = commits.commit(4)
    newer = commits.commit(6)
    commits.committer.on_commit(None, older)
    assert (commits.committed, commits.ended) == ([], 0)
    commits.committer.on_commit(None, newer)
    assert (commits.committed, commits.ended) == ([Position("queries", 0, 6)], 1)


class FailedPartition(TopicPartition):
    """What the client hands back of a partition whose commit failed; its own class takes no error."""

    def __init__(self, topic: str, partition: int, offset: int, error: KafkaError) -> None:
        super().__init__(topic, partition, offset)
        self._error = error

    @property
    def error(self) -> KafkaError:
        return self._error
