"""The measures of rankings, by `ir-measures`: trec_eval's own numbers, one for each question."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import FatalError
from worker.evaluation.questions import Question
from worker.evaluation.rankings import Ranking

Values = NDArray[np.float64]
"""One number a question, in the questions' order."""

PRIMARY = "nDCG@10"
"""What the verdict rests on: graded, and cut where people and prompts stop."""

LOWEST_RANK_SCORE = 1_000_000.0
"""Above any number of candidates: trec_eval orders by scores, so that ranks are given to it upside down."""

GRADED = ("nDCG", "Judged")
"""Measures that take grades as they are; the others ask whether a document is relevant."""


def require(*modules: str) -> None:
    """Raise FatalError if a library of the extra `evaluate` is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise FatalError(
                f"`rerank-worker evaluate` needs {error.name}, which is not installed: "
                "`pip install 'rerank-worker[evaluate]'`"
            ) from error


def measured(
    names: Sequence[str], questions: Sequence[Question], rankings: Sequence[Ranking], relevant_from: int = 1
) -> Mapping[str, Values]:
    """Return each measure's value for each question; an empty ranking has nought.

    ``names`` as ir-measures spells them: `nDCG@10`, `RR@10`, `P@3`, `R@20`, `Success@3`, `Judged@10`. A document of
    grade ``relevant_from`` or better is relevant. NameError for a name it does not know.
    """
    import ir_measures  # noqa: PLC0415 - an extra

    measures = {_measure(name, relevant_from): name for name in names}
    judged = {each.id: dict(each.grades) for each in questions}
    run = {
        question.id: {document: LOWEST_RANK_SCORE - rank for rank, document in enumerate(ranked)}
        for question, ranked in zip(questions, rankings, strict=True)
        if ranked
    }
    places = {each.id: place for place, each in enumerate(questions)}
    values = {name: np.zeros(len(questions)) for name in names}
    for metric in ir_measures.iter_calc(list(measures), judged, run):
        values[measures[metric.measure]][places[metric.query_id]] = metric.value
    return values


def _measure(name: str, relevant_from: int) -> Any:
    import ir_measures  # noqa: PLC0415 - an extra

    measure = ir_measures.parse_measure(name)
    return measure if name.startswith(GRADED) else measure(rel=relevant_from)
