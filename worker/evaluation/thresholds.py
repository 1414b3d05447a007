"""Below which score is a question better refused? What each `min_score` refuses of both kinds of questions.

A query is refused (`no_context`) when none of its candidates reaches the score: that of its best one decides.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.evaluation.measures import Values
from worker.evaluation.questions import Question, QuestionSet
from worker.evaluation.rankings import Scored

MOST_REFUSED = 0.05
"""Of the answerable questions, by the score that is suggested."""
FEWEST_UNANSWERABLE = 5
"""Unanswerable questions it takes to suggest one."""
MOST_POINTS = 200
"""Of a curve, for whoever draws it."""


class Threshold(BaseModel):
    """One `min_score` and what it does."""

    model_config = ConfigDict(frozen=True)

    min_score: float
    answerable_refused: float
    """Share of the answerable questions that are left without any context."""
    unanswerable_refused: float | None
    """The same of the unanswerable ones, where it is right; None: there are none."""
    contexts: float
    """Candidates that reach it, of an answerable question that is not refused, on average, `top_n` at most."""


def curve(questions: QuestionSet, scored: Scored, top_k: int, top_n: int) -> list[Threshold]:
    """Return the thresholds that make a difference, lowest first; each lies between two questions' best scores."""
    answerable = _best(questions.answerable, scored, top_k, top_n)
    unanswerable = _best(questions.unanswerable, scored, top_k, top_n)
    firsts = np.concatenate([answerable[:, 0], unanswerable[:, 0]])
    best = sorted({float(first) for first in firsts if np.isfinite(first)})
    if not best:
        return []
    between = [best[0], *(round((low + high) / 2, 4) for low, high in pairwise(best))]
    if len(between) > MOST_POINTS:
        between = [between[place] for place in np.linspace(0, len(between) - 1, MOST_POINTS).astype(int)]
    return [
        Threshold(
            min_score=threshold,
            answerable_refused=_refused(answerable, threshold),
            unanswerable_refused=_refused(unanswerable, threshold) if len(unanswerable) else None,
            contexts=_kept(answerable, threshold),
        )
        for threshold in dict.fromkeys(between)
    ]


def suggested(questions: QuestionSet, thresholds: Sequence[Threshold]) -> Threshold | None:
    """Return the threshold that refuses most unanswerable questions and at most one in twenty of the answerable.

    None where too few unanswerable questions are known, or where it would refuse no more of them than of the others.
    """
    if len(questions.unanswerable) < FEWEST_UNANSWERABLE:
        return None
    bearable = [each for each in thresholds if each.answerable_refused <= MOST_REFUSED]
    best = max(bearable, key=lambda each: (each.unanswerable_refused or 0, -each.min_score), default=None)
    return None if best is None or (best.unanswerable_refused or 0) <= best.answerable_refused else best


def _best(questions: Sequence[Question], scored: Scored, top_k: int, top_n: int) -> Values:
    """Return each question's best ``top_n`` scores, a row each, the best first; what is not there is below all."""
    best = np.full((len(questions), top_n), -np.inf)
    for row, question in zip(best, questions, strict=True):
        scores = sorted(scored.scores.get(question.id, ())[:top_k], reverse=True)[:top_n]
        row[: len(scores)] = scores
    return best


def _refused(best: Values, threshold: float) -> float:
    return float(np.mean(best[:, 0] < threshold))


def _kept(best: Values, threshold: float) -> float:
    counts = np.sum(best >= threshold, axis=1)
    return float(counts[counts > 0].mean()) if counts.any() else 0.0
