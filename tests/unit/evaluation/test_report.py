"""What a report holds, and what it warns of."""

import pytest

from tests.unit.evaluation.conftest import Reported
from worker.evaluation.report import Report


def test_a_reranker_that_finds_the_answers_is_worth_it_and_one_that_hides_them_harmful(reported: Reported) -> None:
    good, bad = reported([9.0, -9.0]).reranked
    assert good.verdict.outcome == "worth it"
    assert good.values["nDCG@10"] > 0.95
    assert bad.verdict.outcome == "harmful"


def test_several_are_compared_with_the_first_and_the_best_is_told(reported: Reported) -> None:
    report = reported([0.0, 9.0])
    chance, good = report.reranked
    assert chance.against_first is None
    assert good.against_first is not None
    assert good.against_first.low > 0
    assert report.best is good


def test_questions_are_named_by_what_happened_to_them(reported: Reported) -> None:
    [each] = reported([0.0]).reranked
    losses = [change.after - change.before for change in each.worst]
    gains = [change.after - change.before for change in each.best]
    assert losses == sorted(losses)
    assert losses[-1] < 0
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0
    assert len(each.changes) == 24


def test_means_are_those_of_the_answerable_questions(reported: Reported) -> None:
    report = reported()
    assert (report.answerable, report.unanswerable) == (24, 8)
    assert report.recall.values["R@12"] == 1.0
    [each] = report.reranked
    mean = sum(change.after for change in each.changes) / len(each.changes)
    assert each.values["nDCG@10"] == pytest.approx(mean)


def test_judgements_of_relevant_documents_alone_are_warned_of(reported: Reported) -> None:
    given, judged = reported().warnings
    assert given == "a note"
    assert "list relevant documents alone" in judged


def test_pooled_judgements_are_warned_of(reported: Reported) -> None:
    judged = reported(pooled=True).warnings[-1]
    assert "Not all of the first ten are judged (of recall order's" in judged
    assert "pooled" in judged


def test_it_survives_as_json(reported: Reported) -> None:
    report = reported([9.0, 0.0])
    assert Report.model_validate_json(report.model_dump_json()) == report
