"""A report on a terminal."""

import pytest
from rich.console import Console

from tests.unit.evaluation.conftest import JUDGED, Reported
from worker.evaluation.report import Report
from worker.evaluation.terminal import print_report

COLUMNS = 80


def printed(report: Report) -> str:
    console = Console(width=COLUMNS)
    with console.capture() as captured:
        print_report(console, report)
    return captured.get()


@pytest.mark.parametrize("skills", [[9.0], [0.0, 9.0, -9.0]])
def test_it_fits_80_columns_without_a_cell_cut_off(reported: Reported, skills: list[float]) -> None:
    text = printed(reported(skills))
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "…" not in text


def test_the_last_line_is_the_verdict(reported: Reported) -> None:
    report = reported([9.0])
    text = " ".join(printed(report).split())
    assert text.endswith(report.best.verdict.sentence)
    assert "note: a note" in text


def test_several_rerankers_are_numbered_and_set_side_by_side(reported: Reported) -> None:
    text = printed(reported([0.0, 9.0]))
    assert "\n1  model-0\n" in text
    assert "\n2  model-1\n" in text
    assert "side by side" in text
    assert "side by side" not in printed(reported([9.0]))


def test_a_long_question_is_cut_and_its_markup_left_alone(reported: Reported) -> None:
    report = reported([9.0])
    change = report.reranked[0].changes[-1].model_copy(update={"text": "[bold]why[/bold] " * 20})
    [each] = report.reranked
    longer = report.model_copy(update={"reranked": [each.model_copy(update={"changes": [change]})]})
    text = printed(longer)
    assert "[bold]why[/bold]" in text
    assert max(map(len, text.splitlines())) <= COLUMNS


def test_what_was_not_timed_has_no_time(reported: Reported) -> None:
    text = printed(reported([9.0], timed=False))
    rows = [line.split() for line in text.splitlines() if line.startswith("      6 ")]
    assert rows[0][4:6] == ["-", "-"]
    assert "ms a query" not in text


def test_a_second_opinion_is_told_with_what_a_person_should_look_at(reported: Reported) -> None:
    text = printed(reported([9.0]).model_copy(update={"judge": JUDGED}))
    assert "Judged by tiny-llm" in text
    assert "of 20 pairs judged before it agrees on 85%, kappa 0.70" in text
    assert "of 9 pairs nobody had judged it calls 4 relevant" in text
    assert "given 0, judged 3  d7 <why>?" in text
