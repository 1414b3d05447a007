"""The completed prefix against a naive model of it."""

import pytest
from confluent_kafka import KafkaError, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import FatalError
from worker.kafka.consume.offsets import Committer, CompletedPrefix, Lease, Position, to_commit


def at(offset: int) -> Position:
    return Position("queries", 0, offset)


def naive_prefix(tracked: list[int], completed: set[int]) -> int | None:
    last = None
    for offset in tracked:
        if offset not in completed:
            break
        last = offset
    return last


@given(st.data())
def test_the_committable_offset_is_the_end_of_the_longest_finished_run(data: st.DataObject) -> None:
    tracked = sorted(data.draw(st.sets(st.integers(0, 60), max_size=25)))
    order = data.draw(st.permutations(tracked))
    prefix = CompletedPrefix()
    for offset in tracked:
        prefix.track(at(offset), now_s=0.0)

    completed: set[int] = set()
    for offset in order:
        prefix.complete(at(offset))
        completed.add(offset)
        expected = naive_prefix(tracked, completed)
        assert prefix.to_commit == (None if expected is None else at(expected))
    assert prefix.pending == 0


def test_an_unfinished_offset_holds_back_everything_behind_it() -> None:
    prefix = CompletedPrefix()
    for offset in (5, 6, 7):
        prefix.track(at(offset), now_s=0.0)
    prefix.complete(at(6))
    prefix.complete(at(7))
    assert prefix.to_commit is None
    assert prefix.pending == 3

    prefix.complete(at(5))
    assert prefix.to_commit == at(7)


def test_what_is_committed_is_not_offered_again() -> None:
    prefix = CompletedPrefix()
    prefix.track(at(1), now_s=0.0)
    prefix.complete(at(1))
    prefix.mark_committed(at(1))
    assert prefix.to_commit is None


def test_a_completion_after_the_end_of_the_assignment_changes_nothing() -> None:
    prefix = CompletedPrefix()
    prefix.track(at(1), now_s=0.0)
    prefix.end()
    prefix.complete(at(1))
    assert prefix.ended
    assert prefix.to_commit is None


def test_offsets_are_tracked_in_order_only() -> None:
    prefix = CompletedPrefix()
    prefix.track(at(3), now_s=0.0)
    with pytest.raises(ValueError, match="tracked after"):
        prefix.track(at(3), now_s=0.0)


def test_the_watermark_is_that_of_the_oldest_unfinished_offset() -> None:
    prefix = CompletedPrefix()
    assert prefix.oldest_since_s is None
    prefix.track(at(1), now_s=2.0)
    prefix.track(at(2), now_s=6.0)
    assert prefix.oldest_since_s == 2.0
    prefix.complete(at(1))
    assert prefix.oldest_since_s == 6.0


def test_a_prefix_ends_with_its_partitions_lease() -> None:
    lease = Lease()
    prefix = CompletedPrefix(lease)
    prefix.track(at(1), now_s=0.0)
    lease.end()
    prefix.complete(at(1))
    assert prefix.ended
    assert prefix.to_commit is None


def test_the_leader_epoch_is_committed_with_the_offset() -> None:
    commit = to_commit(Position("queries", 3, 7, leader_epoch=5))
    assert (commit.topic, commit.partition, commit.offset, commit.leader_epoch) == ("queries", 3, 8, 5)
    assert to_commit(at(7)).leader_epoch is None


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
        self.fatal: list[FatalError] = []
        self.committer = Committer(self._on_committed, self._on_ended, self.fatal.append)
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
    assert commits.fatal == []


def test_a_commit_that_the_broker_refuses_for_one_partition_is_fatal() -> None:
    commits = Commits()
    commits.commit(4)
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    commits.committer.on_commit(None, [FailedPartition("queries", 0, 5, denied)])
    assert commits.committed == []
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
