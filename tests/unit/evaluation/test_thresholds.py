"""What a min_score refuses."""

import pytest

from worker.evaluation.questions import Question, QuestionSet
from worker.evaluation.rankings import Scored
from worker.evaluation.thresholds import MOST_POINTS, curve, suggested

ANSWERABLE = {"a1": [5.0, 1.0], "a2": [4.0, 3.5], "a3": [2.0]}
UNANSWERABLE = {"u1": [3.0, 0.0], "u2": [-1.0], "u3": [-2.0], "u4": [-3.0], "u5": [-4.0]}
SCORED = Scored("model", {**ANSWERABLE, **UNANSWERABLE})
QUESTIONS = QuestionSet(
    [Question(each, "?", {"d": 1}) for each in ANSWERABLE], [Question(each, "?") for each in UNANSWERABLE], 0, 0
)


def test_each_threshold_lies_between_the_best_scores_of_two_questions() -> None:
    points = curve(QUESTIONS, SCORED, top_k=2, top_n=2)
    assert [point.min_score for point in points] == [-4.0, -3.5, -2.5, -1.5, 0.5, 2.5, 3.5, 4.5]
    refused = {point.min_score: (point.answerable_refused, point.unanswerable_refused) for point in points}
    assert refused[-4.0] == (0.0, 0.0)
    assert refused[0.5] == (0.0, 0.8)
    assert refused[2.5] == (pytest.approx(1 / 3), 0.8)
    assert refused[4.5] == (pytest.approx(2 / 3), 1.0)


def test_contexts_of_questions_that_are_not_refused_are_counted() -> None:
    kept = {point.min_score: point.contexts for point in curve(QUESTIONS, SCORED, top_k=2, top_n=2)}
    assert kept[0.5] == pytest.approx((2 + 2 + 1) / 3)
    assert kept[3.5] == pytest.approx((1 + 2) / 2)
    assert {point.contexts for point in curve(QUESTIONS, SCORED, top_k=2, top_n=1)} == {1.0}


def test_candidates_beyond_top_k_do_not_count() -> None:
    late = Scored("model", SCORED.scores | {"u1": [-5.0, 9.0]})
    points = curve(QUESTIONS, late, top_k=1, top_n=1)
    assert points[0].min_score == -5.0


def test_the_suggestion_refuses_most_unanswerable_questions_and_spares_the_others() -> None:
    best = suggested(QUESTIONS, curve(QUESTIONS, SCORED, top_k=2, top_n=2))
    assert best is not None
    assert best.min_score == 0.5


def test_nothing_is_suggested_where_too_few_are_unanswerable_or_no_score_tells_them_apart() -> None:
    few = QuestionSet(QUESTIONS.answerable, QUESTIONS.unanswerable[:4], 0, 0)
    assert suggested(few, curve(few, SCORED, top_k=2, top_n=2)) is None
    above = Scored("model", {**ANSWERABLE, **{each: [9.0] for each in UNANSWERABLE}})
    assert suggested(QUESTIONS, curve(QUESTIONS, above, top_k=2, top_n=2)) is None


def test_without_unanswerable_questions_the_curve_says_so() -> None:
    questions = QuestionSet(QUESTIONS.answerable, [], 0, 0)
    assert {point.unanswerable_refused for point in curve(questions, SCORED, top_k=2, top_n=2)} == {None}


def test_a_question_without_candidates_is_refused_by_every_score() -> None:
    questions = QuestionSet([*QUESTIONS.answerable, Question("lonely", "?", {"d": 1})], [], 0, 0)
    assert curve(questions, SCORED, top_k=2, top_n=2)[0].answerable_refused == 0.25


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    many = {f"q{number}": [float(number)] for number in range(1000)}
    questions = QuestionSet([Question(each, "?", {"d": 1}) for each in many], [], 0, 0)
    points = curve(questions, Scored("model", many), top_k=1, top_n=1)
    assert len(points) == MOST_POINTS
    assert (points[0].min_score, points[-1].min_score) == (0.0, 998.5)
