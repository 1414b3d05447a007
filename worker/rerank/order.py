"""From scores to a ranking."""

import math
from collections.abc import Sequence

from worker.errors import TransientError
from worker.types import Candidate, Context


def ranked(candidates: Sequence[Candidate], logits: Sequence[float], *, prior_weight: float) -> Sequence[Context]:
    """Return the candidates by ``logit + prior_weight * similarity``, best first, ties in recall order."""
    scores = [
        # A collection whose space hides the cosine has no prior to give; all its candidates lack it alike.
        logit + prior_weight * (candidate.similarity or 0.0)
        for candidate, logit in zip(candidates, logits, strict=True)
    ]
    best_first = sorted(zip(candidates, logits, scores, strict=True), key=lambda each: (-each[2], each[0].recall_rank))
    return [Context(candidate, rank, score, logit) for rank, (candidate, logit, score) in enumerate(best_first, 1)]


def finite(scores: Sequence[float], model_name: str) -> list[float]:
    """Return the scores; TransientError where one is no number: it would rank by chance."""
    if not all(map(math.isfinite, scores)):
        raise TransientError(f"{model_name} gave a score that is not a number")
    return list(scores)
