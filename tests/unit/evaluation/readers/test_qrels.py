"""Judgements in both formats, and the odd things their files hold."""

from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.evaluation.readers.qrels import read_qrels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qrels"


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq 1\ta\t3\nq 1\tb\t0\nq2\ta\t-1\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq 1\ta\t3.0\r\n\r\nq 1\tb\t0\r\nq2\ta\t-1\r\n",
        "q 1\ta\t3\nq 1\tb\t0\nq 1\ta\t3\nq2\ta\t-1",
    ],
    ids=["beir", "bom-crlf-decimals", "no-header-repeated"],
)
def test_beirs_table_is_read(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="")
    assert read_qrels(path) == {"q 1": {"a": 3, "b": 0}, "q2": {"a": -1}}


@pytest.mark.parametrize("content", ["q1 0 a 3\nq1  0   b 0\n", "q1\t0\ta\t3\nq1\tQ0\tb\t0\n"])
def test_trecs_qrels_are_read(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    assert read_qrels(path) == {"q1": {"a": 3, "b": 0}}


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("q1 0 a 3\nq1 a\n", 2, "2 cells; expected"),
        ("q1 0 a 3 extra", 1, "5 cells"),
        ("q1\t\t3", 1, "an empty cell"),
        ("q1 0 a 3\nq1 0 b yes", 2, "the grade 'yes' is no whole number"),
        ("q1 0 a 0.5", 1, "the grade '0.5' is no whole number"),
        ("q1 0 a inf", 1, "the grade 'inf' is no whole number"),
        ("q1 0 a 3\nq2 0 a 1\nq1 0 a 2", 3, "'a' is graded 2 for 'q1' here, and 3 further up"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(path: Path, content: str, line: int, said: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FatalError, match=rf"qrels:{line}: {said}"):
        read_qrels(path)


@pytest.mark.parametrize("content", ["", "query-id\tcorpus-id\tscore\n"])
def test_a_file_without_judgements_is_told(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(FatalError, match="holds no judgement"):
        read_qrels(path)
