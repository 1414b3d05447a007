"""Orders of candidates, of all of them and of the first so many."""

from tests.unit.evaluation.conftest import candidates
from worker.domain import Candidate
from worker.evaluation.questions import Question
from worker.evaluation.rankings import Scored, in_order, ranking, rankings

FOUND = candidates("a", "b", "c", "d")
SCORES = [0.5, 2.0, 0.5, 3.0]


def order(scores: list[float] | None, top_k: int) -> list[str]:
    return [candidate.document_id for candidate in in_order(FOUND, scores, top_k)]


def test_without_scores_recall_order_is_kept() -> None:
    assert order(None, 3) == ["a", "b", "c"]


def test_a_cut_holds_the_first_candidates_alone_by_their_scores() -> None:
    assert order(SCORES, 4) == ["d", "b", "a", "c"]
    assert order(SCORES, 3) == ["b", "a", "c"]


def test_candidates_of_equal_score_stay_in_recall_order() -> None:
    assert order([1.0] * 4, 4) == ["a", "b", "c", "d"]


def test_a_document_of_several_chunks_stands_where_its_best_one_does() -> None:
    chunks = [
        Candidate("x#2", "", 1, 0.0, metadata={"chunk": 2}),
        Candidate("y", "", 2, 0.0),
        Candidate("x", "", 3, 0.0, metadata={"chunk": 1}),
    ]
    assert ranking(Question("q", "?"), chunks) == ["x", "y"]


def test_a_question_without_candidates_has_an_empty_ranking() -> None:
    asked = [Question("q", "?"), Question("lonely", "?")]
    assert rankings(asked, {"q": FOUND}, Scored("model", {"q": SCORES}), 2) == [["b", "a"], []]
    assert rankings(asked, {"q": FOUND}, None, 2) == [["a", "b"], []]
