"""The sentence at the end."""

import pytest

from worker.evaluation.grid import GridRow, Kept
from worker.evaluation.significance import Difference
from worker.evaluation.thresholds import Threshold
from worker.evaluation.verdict import outcome, verdict

GAIN = Difference(0.1, 0.06, 0.14, 0.0002, 30, 10, 5)
LOSS = Difference(-0.1, -0.14, -0.06, 0.0002, 5, 10, 30)
CHANCE = Difference(0.01, -0.02, 0.04, 0.4, 12, 10, 10)
THRESHOLD = Threshold(min_score=-2.125, answerable_refused=0.02, unanswerable_refused=0.9, contexts=2.5)


def row(difference: Difference, top_k: int = 20, value: float = 0.7, mean_ms: float | None = 84.2) -> GridRow:
    kept = [
        Kept(top_n=1, ndcg=0.6, success=0.6, success_recalled=0.5),
        Kept(top_n=3, ndcg=0.7, success=0.9, success_recalled=0.7),
    ]
    return GridRow(
        top_k=top_k,
        recall=0.9,
        value=value,
        difference=difference,
        kept=kept,
        pairs=20,
        mean_ms=mean_ms,
        p95_ms=mean_ms,
        timed=45,
    )


@pytest.mark.parametrize(
    ("difference", "came"),
    [
        (GAIN, "worth it"),
        (LOSS, "harmful"),
        (CHANCE, "not shown"),
        (Difference(0.1, 0.01, 0.2, 0.06, 5, 0, 1), "not shown"),
        (Difference(0.1, -0.01, 0.2, 0.04, 5, 0, 1), "not shown"),
    ],
    ids=["gain", "loss", "chance", "test alone unsure", "interval alone unsure"],
)
def test_both_the_interval_and_the_test_must_leave_nought_out(difference: Difference, came: str) -> None:
    assert outcome(difference) == came


def test_worth_it_says_how_much_for_what_and_what_to_set() -> None:
    said = verdict("model", 0.6, [row(GAIN, 10, 0.698), row(GAIN)], THRESHOLD, 45)
    assert said.sentence == (
        "Worth it here: reranking 20 candidates by model raises nDCG@10 from 0.600 to 0.700 "
        "(+0.100, 95 % [+0.060, +0.140], p < 0.001), for 84 ms a query; set top_k=10, top_n=3, min_score=-2.12."
    )
    assert said.advice.model_dump() == {"top_k": 10, "top_n": 3, "min_score": -2.12}


def test_not_shown_says_on_how_many_questions() -> None:
    said = verdict("model", 0.69, [row(CHANCE, mean_ms=None)], None, 32)
    assert said.outcome == "not shown"
    assert "from 0.690 to 0.700 (+0.010, 95 % [-0.020, +0.040], p = 0.4) on 32 questions, which may" in said.sentence
    assert said.sentence.endswith("until then top_k=20, top_n=3.")


def test_harmful_gives_no_settings_to_keep() -> None:
    said = verdict("model", 0.8, [row(LOSS)], THRESHOLD, 45)
    assert said.sentence.startswith("Harmful here: reranking 20 candidates by model lowers nDCG@10 from 0.800 to 0.700")
    assert "try another model" in said.sentence
