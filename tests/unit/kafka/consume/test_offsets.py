"""The completed prefix against a naive model of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kafka.consume.offsets import CompletedPrefix, Lease, LogId, Position, to_commit


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


def test_the_log_is_noted_in_the_commit_and_read_back() -> None:
    log = LogId("cluster:of-any-name", "dGhlIHRvcGljJ3MgaWQ")
    commit = to_commit(at(7), log)
    assert LogId.from_metadata(commit.metadata) == log
    # Brokers before 2.8 give topics no id.
    assert not to_commit(at(7), LogId("cluster", "")).metadata
    assert LogId.from_metadata("log=") is LogId.from_metadata(None) is None


def test_behind_transactions_a_partition_that_is_done_with_counts_to_its_end() -> None:
    prefix = CompletedPrefix()
    prefix.track(at(3), now_s=0.0)
    prefix.reach_end(at(5))
    assert prefix.to_commit is None
    prefix.complete(at(3))
    assert prefix.to_commit == at(5)
    assert prefix.pending == 0
    prefix.mark_committed(at(5))

    # Nothing in flight: it counts at once. The end of what has been passed already is no news.
    prefix.reach_end(at(5))
    assert prefix.to_commit is None
    prefix.reach_end(at(7))
    assert prefix.to_commit == at(7)


def test_an_end_with_records_behind_it_does_not_count_for_them() -> None:
    prefix = CompletedPrefix()
    prefix.track(at(3), now_s=0.0)
    prefix.reach_end(at(5))
    prefix.track(at(6), now_s=0.0)
    prefix.complete(at(3))
    assert prefix.to_commit == at(3)
    with pytest.raises(ValueError, match="tracked after"):
        prefix.track(at(5), now_s=0.0)


def passed(log: LogId | None) -> CompletedPrefix:
    """A prefix of a log that was read up to offset 7, the last two under a second leader."""
    prefix = CompletedPrefix(Lease(log))
    for offset in range(8):
        prefix.track(Position("queries", 0, offset, leader_epoch=4 if offset < 6 else 5), now_s=0.0)
    return prefix


@pytest.mark.parametrize(
    ("offset", "leader_epoch", "again"),
    [(0, 4, True), (7, 5, True), (8, 5, False), (7, 6, False), (0, None, False)],
    ids=["the first", "the last", "the next", "written after a truncation", "not told"],
)
def test_a_record_is_known_again_by_its_leader_epoch(offset: int, leader_epoch: int | None, again: bool) -> None:
    prefix = passed(LogId("cluster", "topic"))
    assert prefix.has_passed(Position("queries", 0, offset, leader_epoch)) is again


@pytest.mark.parametrize("log", [None, LogId("", "")], ids=["not known yet", "never told"])
def test_of_a_log_that_is_not_known_nothing_is_known_again(log: LogId | None) -> None:
    """A topic that was made again begins its epochs anew, too."""
    assert not passed(log).has_passed(Position("queries", 0, 0, leader_epoch=0))
