"""Candidates from files: the worker's own answers, and passages that something else recalled."""

import json
from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.evaluation.readers.candidates import read_candidates

EXAMPLES = Path(__file__).parents[4] / "schemas" / "examples"
ANSWER = json.loads((EXAMPLES / "answer-event.ok.json").read_text(encoding="utf-8"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "candidates.jsonl"


def write(path: Path, *rows: object) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def candidate(identifier: str, recall_rank: int, score: float | None) -> dict[str, object]:
    return ANSWER["contexts"][0] | {
        "document_id": identifier,
        "recall_rank": recall_rank,
        "rerank_score": score,
        "rerank_windows": 2,
    }


def test_passages_keep_the_order_of_their_line(path: Path) -> None:
    write(path, {"qid": 7, "query": "why?", "passages": [{"id": "b", "text": "B"}, {"docid": "a", "text": "A"}]})
    [found] = read_candidates(path)
    assert (found.question_id, found.text, found.scores, found.rerank_s) == ("7", "why?", None, None)
    assert [(each.document_id, each.text, each.recall_rank) for each in found.candidates] == [
        ("b", "B", 1),
        ("a", "A", 2),
    ]


def test_an_answer_keeps_recall_order_its_scores_and_its_time(path: Path) -> None:
    write(path, ANSWER | {"candidates": [candidate("late", 2, 5.0), candidate("early", 1, -1.0)]})
    [found] = read_candidates(path)
    assert (found.question_id, found.text) == (ANSWER["query_id"], ANSWER["query_text"])
    assert [each.document_id for each in found.candidates] == ["early", "late"]
    assert found.scores == [-1.0, 5.0]
    assert found.windows == 4
    assert found.model == ANSWER["models"]["cross_encoder"]
    assert found.rerank_s == pytest.approx(ANSWER["timings_ms"]["rerank"] / 1000)


def test_answers_without_candidates_or_not_reranked_are_passed_over(path: Path) -> None:
    without = ANSWER | {"candidates": None}
    failed = ANSWER | {"query_id": "failed", "candidates": [candidate("a", 1, None)]}
    whole = ANSWER | {"query_id": "whole", "candidates": [candidate("a", 1, 1.0)]}
    write(path, without, failed, whole)
    assert [each.question_id for each in read_candidates(path)] == ["whole"]
    write(path, without, failed)
    with pytest.raises(
        FatalError, match="holds no candidates: the queries must ask for them with `include_candidates`"
    ):
        read_candidates(path)


PASSAGE = {"id": "a", "text": "A"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "why?", "passages": [PASSAGE]}, r":2: query_id: is missing"),
        ({"qid": "8", "query": "how?", "passages": [{"id": "a"}]}, r":2: .*0\.text: is missing"),
        ({"qid": "8", "query": "how?", "passages": [PASSAGE, PASSAGE]}, r":2: the question '8' has a candidate twice"),
        ({"qid": "7", "query": "how?", "passages": [PASSAGE]}, r":2: the question '7' is already that of .*:1"),
    ],
)
def test_what_is_wrong_is_named(path: Path, row: object, said: str) -> None:
    write(path, {"qid": "7", "query": "why?", "passages": [PASSAGE]}, row)
    with pytest.raises(FatalError, match=rf"candidates\.jsonl{said}"):
        read_candidates(path)
