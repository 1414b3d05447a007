"""The whole of it on recorded answers: no model, no store."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import FatalError
from worker.evaluation.evaluate import Request, evaluate
from worker.evaluation.report import Report
from worker.settings import Settings

NAMES = [f"d{number}" for number in range(12)]
ASKED = [f"q{number}" for number in range(10)]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Ten answers whose right document is recalled seventh and reranked first."""
    path = tmp_path / "answers.jsonl"
    rows = [
        {
            "query_id": asked,
            "query_text": f"question {asked}",
            "candidates": [
                {
                    "document_id": name,
                    "text": name,
                    "recall_rank": rank,
                    "rerank_score": 9.0 if rank == 7 else -float(rank),
                }
                for rank, name in enumerate(NAMES, 1)
            ],
            "timings_ms": {"rerank": 40},
            "models": {"cross_encoder": "model"},
        }
        for asked in ASKED
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    path = tmp_path / "qrels.txt"
    path.write_text("".join(f"{asked} 0 d6 1\n" for asked in ASKED))
    return path


def evaluated(**wanted: Any) -> Report:
    return evaluate(Settings(), Request(**wanted), lambda *_: None)


def test_what_was_answered_is_measured_without_a_model(answers: Path, qrels: Path) -> None:
    report = evaluated(candidates=answers, qrels=qrels)
    [each] = report.reranked
    assert each.name == "model (as answered)"
    assert (report.recall.values["RR@10"], each.values["RR@10"]) == (pytest.approx(1 / 7), 1.0)
    assert each.verdict.outcome == "worth it"
    assert each.verdict.advice.top_k == 10
    assert [(row.top_k, row.mean_ms) for row in each.grid] == [(5, None), (10, None), (12, pytest.approx(40))]
    assert [row.recall for row in each.grid] == [0.0, 1.0, 1.0]


def test_the_grid_is_what_was_asked_for_and_no_more_than_there_is(answers: Path, qrels: Path) -> None:
    report = evaluated(candidates=answers, qrels=qrels, top_ks=[7, 50], top_ns=[2])
    assert [row.top_k for row in report.best.grid] == [7, 12]
    assert [kept.top_n for kept in report.best.grid[0].kept] == [2]
    assert report.top_k == 12


def test_the_first_questions_alone_may_do(answers: Path, qrels: Path) -> None:
    assert evaluated(candidates=answers, qrels=qrels, limit=3).answerable == 3


def test_what_is_left_out_is_said(answers: Path, qrels: Path) -> None:
    with qrels.open("a") as more:
        more.write("elsewhere 0 d6 1\n")
    lines = qrels.read_text().splitlines()
    qrels.write_text("\n".join(lines[2:]))
    first, second, *_ = evaluated(candidates=answers, qrels=qrels).warnings
    assert first == "2 questions have no judgement and are left out."
    assert second == "1 judged questions have no text, or no candidates, here and are left out."


def test_judgements_of_other_ids_are_told_with_examples_of_both(answers: Path, qrels: Path) -> None:
    qrels.write_text(qrels.read_text().replace("d6", "doc-6"))
    with pytest.raises(
        FatalError, match=r"no candidate .* was judged.*'q0' 'd0', 'd1', 'd2' was recalled, and 'doc-6'"
    ):
        evaluated(candidates=answers, qrels=qrels)


def test_what_is_missing_is_told(answers: Path, qrels: Path) -> None:
    with pytest.raises(FatalError, match="no judgements: give --qrels"):
        evaluated(candidates=answers)
    with pytest.raises(FatalError, match="smallest top_n, 5, is more than the smallest top_k, 3"):
        evaluated(candidates=answers, qrels=qrels, top_ks=[3], top_ns=[5])
    with pytest.raises(FatalError, match="--fail-below knows no 'gian'"):
        evaluated(candidates=answers, qrels=qrels, bars={"gian": 0})
