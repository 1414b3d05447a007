"""From scores to a ranking."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from worker.domain import Candidate, Context
from worker.errors import TransientError


@dataclass(frozen=True, slots=True)
class Judgement:
    """A document's score, and what of it was read; None where that is not known."""

    logit: float
    windows: int | None = None
    truncated: bool | None = None


def ranked(
    candidates: Sequence[Candidate], judgements: Sequence[Judgement], *, prior_weight: float
) -> Sequence[Context]:
    """Return the candidates by ``logit + prior_weight * similarity``, best first, ties in recall order."""
    scores = [
        # A collection whose space hides the cosine has no prior to give; all its candidates lack it alike.
        judgement.logit + prior_weight * (candidate.similarity or 0.0)
        for candidate, judgement in zip(candidates, judgements, strict=True)
    ]
    judged = zip(candidates, judgements, scores, strict=True)
    best_first = sorted(judged, key=lambda each: (-each[2], each[0].recall_rank))
    return [
        Context(candidate, rank, score, judgement.logit, judgement.windows, judgement.truncated)
        for rank, (candidate, judgement, score) in enumerate(best_first, 1)
    ]


def finite(scores: Sequence[float], model_name: str) -> list[float]:
    """Return the scores; TransientError where one is no number: it would rank by chance."""
    if not all(map(math.isfinite, scores)):
        raise TransientError(f"{model_name} gave a score that is not a number")
    return list(scores)
