"""The oracle finds what it is there to find: a proof by an oracle that can't say no is none."""

import pytest

from tests.faults.oracle import SequenceOracle


@pytest.fixture
def oracle() -> SequenceOracle:
    """Three queries of one key and a poison event, all as it should be but for the outcome of q2."""
    oracle = SequenceOracle()
    for offset, query_id in enumerate(["q0", "q1", "bad", "q2"]):
        oracle.asked(0, offset, query_id, key="k", poison=query_id == "bad")
    oracle.answered("q0", "ok")
    oracle.answered("q1", "ok")
    oracle.dead_lettered("bad", "invalid_json")
    return oracle


def wrong(oracle: SequenceOracle, *, repeats_allowed: int = 0) -> list[str]:
    return oracle.verdict().wrong(ordered=True, repeats_allowed=repeats_allowed)


def test_all_is_well_when_every_query_has_its_one_outcome(oracle: SequenceOracle) -> None:
    oracle.answered("q2", "expired")
    oracle.committed(0, 4)
    assert wrong(oracle) == []
    assert oracle.pending == 0
    assert oracle.verdict().outcomes == {"ok": 2, "expired": 1, "invalid_json": 1}


def test_a_query_without_an_outcome_is_lost(oracle: SequenceOracle) -> None:
    assert oracle.verdict().lost == [(0, 0, 3)]
    assert wrong(oracle) == ["1 lost: [(0, 0, 3)] ..."]


def test_an_offset_committed_before_its_outcome_is_found_even_if_the_outcome_comes_later(
    oracle: SequenceOracle,
) -> None:
    oracle.committed(0, 4)
    oracle.answered("q2", "ok")
    assert wrong(oracle) == ["1 committed before their outcome: [(0, 0, 3)] ..."]


def test_a_gap_in_the_offsets_is_no_query(oracle: SequenceOracle) -> None:
    oracle.answered("q2", "ok")
    oracle.asked(0, 9, "q9", key="k")
    oracle.answered("q9", "ok")
    oracle.committed(0, 10)
    assert wrong(oracle) == []


def test_repeats_are_counted_against_what_is_allowed(oracle: SequenceOracle) -> None:
    oracle.answered("q2", "ok")
    oracle.answered("q0", "ok")
    oracle.dead_lettered("bad", "invalid_json")
    oracle.dead_lettered("bad", "invalid_json")
    assert wrong(oracle, repeats_allowed=3) == []
    assert wrong(oracle, repeats_allowed=2) == ["3 repeats; 2 allowed"]
    assert oracle.verdict().most_repeats == 2


def test_only_the_first_answers_of_a_key_must_be_in_order(oracle: SequenceOracle) -> None:
    oracle.answered("q2", "ok")
    oracle.answered("q1", "ok")
    oracle.asked(0, 4, "late", key="k")
    oracle.asked(0, 5, "early", key="k")
    oracle.asked(0, 6, "other", key="another")
    for query_id in ("other", "early", "late"):
        oracle.answered(query_id, "ok")
    assert oracle.verdict().disordered == [(0, 0, 4)]


def test_a_valid_query_among_the_dead_letters_ended_the_wrong_way(oracle: SequenceOracle) -> None:
    oracle.dead_lettered("q2", "retries_exhausted")
    assert wrong(oracle) == ["1 ended the wrong way: [(0, 0, 3)] ..."]


def test_outcomes_of_nothing_that_was_asked_are_found(oracle: SequenceOracle) -> None:
    oracle.answered("q2", "ok")
    oracle.answered("nobody", "ok")
    oracle.dead_lettered("nothing", "invalid_json")
    assert oracle.verdict().unknown == ["nobody", "nothing"]


def test_what_was_deleted_with_its_topic_is_not_lost_and_the_new_topic_has_offsets_of_its_own(
    oracle: SequenceOracle,
) -> None:
    oracle.committed(0, 3)
    oracle.topic_made_again()
    assert (oracle.pending, oracle.verdict().lost, oracle.verdict().deleted) == (0, [], 1)
    oracle.asked(0, 0, "q3", key="k")
    oracle.committed(0, 1)
    assert wrong(oracle) == [
        "1 lost: [(1, 0, 0)] ...",
        "1 committed before their outcome: [(1, 0, 0)] ...",
    ]
    # Answered all the same, and not before a later query of its key: that was another log.
    oracle.answered("q3", "ok")
    oracle.answered("q2", "ok")
    assert oracle.verdict().deleted == 0
    assert oracle.verdict().disordered == []
    # A worker that has not noticed yet goes on at 4, and reads what is before that later; what is behind it, in order.
    for offset, query_id in enumerate(["q4", "q5", "q6", "q7", "q8", "q9"], 1):
        oracle.asked(0, offset, query_id, key="k")
    for query_id in ("q7", "q9", "q8", "q4", "q5", "q6"):
        oracle.answered(query_id, "ok")
    assert oracle.verdict().disordered == [(1, 0, 5)]
