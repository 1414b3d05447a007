"""What a worker answered already, matched with the questions that were judged."""

import pytest

from tests.unit.evaluation.conftest import candidates
from worker.errors import FatalError
from worker.evaluation.answered import as_answered, candidates_of, matched
from worker.evaluation.questions import Question
from worker.evaluation.readers.candidates import Recorded


def record(identifier: str, text: str, *names: str, model: str = "model") -> Recorded:
    return Recorded(identifier, text, candidates(*names), [1.0] * len(names), len(names), model, 0.25)


def test_an_answer_is_matched_by_the_questions_id_or_else_by_its_text() -> None:
    questions = [Question("q1", "why?"), Question("q2", "how?"), Question("q3", "never asked")]
    asked, records = matched([record("q1", "reworded", "a"), record("uuid", "how?", "b")], questions)
    assert [each.id for each in asked] == ["q1", "q2"]
    assert [(each.question_id, each.candidates[0].document_id) for each in records] == [("q1", "a"), ("q2", "b")]


def test_the_last_answer_to_a_question_counts() -> None:
    twice = [record("one", "why?", "old"), record("two", "why?", "new")]
    _, [latest] = matched(twice, [Question("q", "why?")])
    assert latest.candidates[0].document_id == "new"
    [asked], [latest] = matched([record("one", "why?", "old"), record("one", "why?", "new")], None)
    assert (asked.id, asked.text, latest.candidates[0].document_id) == ("one", "why?", "new")


def test_answers_to_other_questions_are_told() -> None:
    with pytest.raises(FatalError, match="none of the 1 questions is among the 1 that have candidates"):
        matched([record("other", "something else", "a")], [Question("q", "why?")])


def test_the_workers_own_scores_are_a_reranker_with_its_times() -> None:
    records = [record("q1", "why?", "a", "b"), record("q2", "how?", "c", model="newer")]
    scored = as_answered(records)
    assert scored is not None
    assert scored.name == "model, newer (as answered)"
    assert scored.scores == {"q1": [1.0, 1.0], "q2": [1.0]}
    assert scored.pairs == {"q1": 2, "q2": 1}
    assert scored.seconds == {2: [0.25], 1: [0.25]}
    assert candidates_of(records)["q2"] == records[1].candidates


def test_passages_that_nobody_scored_are_no_reranker() -> None:
    assert as_answered([Recorded("q", "why?", candidates("a"))]) is None
