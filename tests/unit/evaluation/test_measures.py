"""The measures, against values computed by hand and ir-measures' own example."""

import math

import numpy as np
import pytest

from worker.errors import FatalError
from worker.evaluation.measures import measured, require
from worker.evaluation.questions import Question

QUESTIONS = [
    # d has a grade of its own, and is never recalled.
    Question("q1", "?", {"a": 3, "b": 0, "c": -1, "d": 1}),
    Question("q2", "?", {"z": 1}),
]
RANKINGS = [["c", "x", "a", "b"], []]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nDCG@10", (3 / math.log2(4)) / (3 + 1 / math.log2(3))),
        ("nDCG@2", 0.0),
        ("RR@10", 1 / 3),
        ("RR@2", 0.0),
        ("P@3", 1 / 3),
        ("P@10", 1 / 10),
        ("R@10", 1 / 2),
        ("Success@3", 1.0),
        ("Success@1", 0.0),
        # x alone was never judged; a negative grade is a judgement.
        ("Judged@3", 2 / 3),
    ],
)
def test_a_value_is_what_a_hand_computes_and_an_empty_ranking_has_nought(name: str, value: float) -> None:
    np.testing.assert_allclose(measured([name], QUESTIONS, RANKINGS)[name], [value, 0.0])


def test_relevant_is_what_has_the_grade_that_is_asked_for() -> None:
    asked = [Question("q", "?", {"a": 1, "b": 2})]
    assert measured(["RR@10"], asked, [["a", "b"]])["RR@10"] == [1.0]
    values = measured(["RR@10", "P@2", "nDCG@2"], asked, [["a", "b"]], relevant_from=2)
    assert (values["RR@10"], values["P@2"]) == ([0.5], [0.5])
    assert values["nDCG@2"] == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))


def test_the_example_of_ir_measures_documentation() -> None:
    """Its qrels and run, where both runs' scores are ranks here."""
    asked = [Question("Q0", "?", {"D0": 0, "D1": 1}), Question("Q1", "?", {"D0": 0, "D3": 2})]
    values = measured(["nDCG@10", "P@5"], asked, [["D0", "D1"], ["D0", "D3", "D4"]])
    np.testing.assert_allclose(values["nDCG@10"], [1 / math.log2(3)] * 2)
    np.testing.assert_allclose(values["P@5"], [0.2, 0.2])


def test_ranks_beyond_what_float32_tells_apart_are_kept() -> None:
    asked = [Question("q", "?", {"d999": 1})]
    assert measured(["RR@1000"], asked, [[f"d{rank}" for rank in range(1000)]])["RR@1000"] == [1 / 1000]


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(NameError, match="best"):
        measured(["best"], QUESTIONS, RANKINGS)


def test_a_missing_library_names_the_extra_that_has_it() -> None:
    with pytest.raises(FatalError, match=r"needs not_there, .*pip install 'rerank-worker\[evaluate\]'"):
        require("json", "not_there")
