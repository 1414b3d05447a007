"""`evaluate` as it is typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from worker.cli.main import app
from worker.evaluation.report import Report

NAMES = [f"d{number}" for number in range(10)]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Recorded answers that put the right document, recalled last, first; and their judgements."""
    answers, qrels = tmp_path / "answers.jsonl", tmp_path / "qrels.txt"
    passages = [{"id": name, "text": name, "rerank_score": float(rank)} for rank, name in enumerate(NAMES)]
    rows = [
        {"qid": f"q{number}", "query": "why?", "passages": passages, "timings_ms": {"rerank": 1}} for number in range(8)
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels.write_text("".join(f"q{number} 0 d9 1\n" for number in range(8)))
    return ["--candidates", str(answers), "--qrels", str(qrels)]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


def test_the_verdict_is_printed_last(files: list[str]) -> None:
    ended = run(*files)
    assert ended.exit_code == 0
    assert "Worth it here: reranking 10 candidates" in " ".join(ended.stdout.split())


def test_json_is_the_report_and_nothing_else(files: list[str]) -> None:
    report = Report.model_validate_json(run(*files, "--json").stdout)
    assert report.best.values["RR@10"] == 1.0


def test_the_page_is_written_beside(files: list[str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert run(*files, "--html", str(page)).exit_code == 0
    assert "Worth it here" in page.read_text(encoding="utf-8")


def test_a_bar_that_is_missed_is_an_exit_code_of_its_own(files: list[str]) -> None:
    assert run(*files, "--fail-below", "gain-low=0.1", "--fail-below", "nDCG@10=0.9").exit_code == 0
    ended = run(*files, "--fail-below", "nDCG@10=1.1")
    assert ended.exit_code == 4
    assert "nDCG@10 is 1.000, below 1.1" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --queries"),
        (["--from-topic", "--collection", "x"], "give one of --collection"),
        (["--queries", "q", "--top-k", "5,ten"], "--top-k takes numbers"),
        (["--queries", "q", "--top-n", "0"], "--top-n: from 1 to 1,000"),
    ],
)
def test_a_misuse_is_told(arguments: list[str], said: str) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert said in " ".join(ended.stderr.replace("│", " ").split())
