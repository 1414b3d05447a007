"""Which questions can be evaluated, and which document a candidate is."""

import pytest

from worker.domain import Candidate
from worker.errors import FatalError
from worker.evaluation.questions import Question, question_set

ASKED = [Question(identifier, f"about {identifier}") for identifier in ("a", "b", "c", "d")]


def test_questions_are_told_apart_by_what_was_judged_of_them() -> None:
    judgements = {"a": {"d1": 1, "d2": 0}, "b": {"d1": 0, "d2": -1}, "c": {"d3": 2}, "other": {"d1": 3}}
    questions = question_set(ASKED, judgements)
    assert [each.id for each in questions.answerable] == ["a", "c"]
    assert questions.answerable[0].grades == {"d1": 1, "d2": 0}
    assert [each.id for each in questions.unanswerable] == ["b"]
    assert (questions.unjudged, questions.unasked) == (1, 1)


def test_what_is_relevant_begins_at_the_grade_that_is_asked_for() -> None:
    judgements = {"a": {"d1": 1}, "b": {"d1": 2}, "c": {"d1": 3}}
    questions = question_set(ASKED, judgements, relevant_from=2)
    assert [each.id for each in questions.answerable] == ["b", "c"]
    assert [each.id for each in questions.unanswerable] == ["a"]


def test_questions_may_bring_their_judgements() -> None:
    brought = [Question("a", "x", {"d": 1}), Question("b", "y", {"e": 1}), Question("c", "z")]
    questions = question_set(brought, None)
    assert [each.id for each in questions.answerable] == ["a", "b"]
    assert [each.id for each in questions.unanswerable] == ["c"]


def test_too_few_to_compare_are_refused() -> None:
    with pytest.raises(FatalError, match=r"1 of 4 questions have a document judged 1 or better; 2 at least"):
        question_set(ASKED, {"a": {"d1": 1}})


def test_files_that_do_not_belong_together_are_shown_by_their_ids() -> None:
    with pytest.raises(FatalError, match=r"no id is in both files \(questions: 'a', 'b', 'c'; judgements: '1', '2'\)"):
        question_set(ASKED, {"1": {"d1": 1}, "2": {"d1": 1}})


@pytest.mark.parametrize(
    ("identifier", "chunk", "document"),
    [
        ("guide.md", {}, "guide.md"),
        ("guide.md", {"chunk": 1}, "guide.md"),
        ("guide.md#2", {"chunk": 2}, "guide.md"),
        ("issue#2", {}, "issue#2"),
        ("judged#2", {"chunk": 2}, "judged#2"),
    ],
)
def test_a_chunk_is_judged_with_its_document(identifier: str, chunk: dict[str, int], document: str) -> None:
    question = Question("q", "?", {"judged#2": 1})
    assert question.document_of(Candidate(identifier, "text", 1, 0.0, metadata=chunk)) == document
