"""What fewer candidates and contexts give and cost, on rankings that a hand can check."""

import pytest

from tests.unit.evaluation.conftest import candidates
from worker.evaluation.grid import GridRow, best_top_k, best_top_n, grid
from worker.evaluation.questions import Question, QuestionSet
from worker.evaluation.rankings import Scored

QUESTIONS = QuestionSet([Question("q1", "?", {"d": 1}), Question("q2", "?", {"a": 1})], [], 0, 0)
FOUND = {"q1": candidates("a", "b", "c", "d"), "q2": candidates("a", "b")}
SCORED = Scored("model", {"q1": [1.0, 2.0, 3.0, 4.0], "q2": [2.0, 1.0]}, {"q1": 8, "q2": 2}, {4: [0.1, 0.3]})


@pytest.fixture
def rows() -> list[GridRow]:
    return grid(QUESTIONS, FOUND, SCORED, [4, 2], [1, 3])


def test_a_row_is_a_cut_of_the_same_scores(rows: list[GridRow]) -> None:
    fewest, most = rows
    assert (fewest.top_k, most.top_k) == (2, 4)
    # Without its document q1 has nothing to gain, and q2 keeps its first place.
    assert (fewest.recall, fewest.value) == (0.5, 0.5)
    assert (most.recall, most.value) == (1.0, 1.0)


def test_the_gain_is_against_recall_order_of_all_candidates(rows: list[GridRow]) -> None:
    whole = (0.43067655807339306 + 1.0) / 2  # q1's document is the fourth: 1 / log2(5)
    assert rows[0].difference.mean == pytest.approx(0.5 - whole)
    assert rows[1].difference.mean == pytest.approx(1.0 - whole)


def test_contexts_hold_a_relevant_document_or_not(rows: list[GridRow]) -> None:
    [fewest, most] = [[(kept.top_n, kept.success, kept.success_recalled) for kept in row.kept] for row in rows]
    assert fewest == [(1, 0.5, 0.5)]
    assert most == [(1, 1.0, 0.5), (3, 1.0, 0.5)]


def test_cost_is_pairs_and_the_times_that_were_measured(rows: list[GridRow]) -> None:
    fewest, most = rows
    # q1 took two windows a document.
    assert (fewest.pairs, most.pairs) == ((4 + 2) / 2, (8 + 2) / 2)
    assert (fewest.mean_ms, fewest.p95_ms, fewest.timed) == (None, None, 0)
    assert most.mean_ms == pytest.approx(200)
    assert most.p95_ms == pytest.approx(290)
    assert most.timed == 2


def test_the_fewest_candidates_that_are_nearly_as_good_are_enough(rows: list[GridRow]) -> None:
    values = {5: 0.60, 10: 0.697, 20: 0.701, 50: 0.698}
    cut = [rows[0].model_copy(update={"top_k": top_k, "value": value}) for top_k, value in values.items()]
    assert best_top_k(cut).top_k == 10


def test_the_fewest_contexts_that_hold_nearly_as_much_are_enough(rows: list[GridRow]) -> None:
    kept = rows[1].kept[0]
    shares = {1: 0.7, 3: 0.93, 5: 0.94, 10: 0.945}
    row = rows[1].model_copy(
        update={"kept": [kept.model_copy(update={"top_n": n, "success": share}) for n, share in shares.items()]}
    )
    assert best_top_n(row).top_n == 3
