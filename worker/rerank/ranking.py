"""From the logits of pairs to the score of each document, and to the ranking of a query's candidates."""

import math
from collections.abc import Sequence
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from worker.domain import Candidate, Context
from worker.errors import TransientError
from worker.rerank.pairs.batch import EncodedPair


class DocumentScore(NamedTuple):
    """A document's score, and what of it was read; None where that is not known."""

    logit: float
    windows: int | None = None
    truncated: bool | None = None
    best_window: range | None = None
    """The tokens of its best window, if it has several."""


def finite(scores: Sequence[float], model_name: str) -> list[float]:
    """Return the scores; TransientError where one is no number: it would rank by chance."""
    if not all(map(math.isfinite, scores)):
        raise TransientError(f"{model_name} gave a score that is not a number")
    return list(scores)


def document_scores(pairs: Sequence[EncodedPair], logits: Sequence[float], *, mean: bool) -> list[DocumentScore]:
    """Return one score per document, in order: the best logit of its windows, or their mean."""
    if pairs and len(pairs) == pairs[-1].document + 1:  # each has one window
        # Both tuples of this file as a query makes them, twenty at once: in half the time of as many calls.
        read = [(logit, 1, pair.truncated, pair.window) for pair, logit in zip(pairs, logits, strict=True)]
        return list(map(DocumentScore._make, read))
    scores = []
    by_document = groupby(zip(pairs, logits, strict=True), key=lambda scored: scored[0].document)
    for _, scored in by_document:
        group = list(scored)
        of_windows = [logit for _, logit in group]
        logit = fmean(of_windows) if mean else max(of_windows)
        best = group[of_windows.index(max(of_windows))][0]
        scores.append(DocumentScore(logit, len(group), best.truncated, best.window))
    return scores


def ranked(
    candidates: Sequence[Candidate], scores: Sequence[DocumentScore], *, prior_weight: float
) -> Sequence[Context]:
    """Return the candidates by ``logit + prior_weight * similarity``, best first, ties in recall order."""
    rerank_scores = [
        # A collection whose space hides the cosine has no prior to give; all its candidates lack it alike.
        score.logit + prior_weight * (candidate.similarity or 0.0)
        for candidate, score in zip(candidates, scores, strict=True)
    ]
    scored = zip(candidates, scores, rerank_scores, strict=True)
    best_first = sorted(scored, key=lambda each: (-each[2], each[0].recall_rank))
    judged = [
        (candidate, rank, rerank_score, score.logit, score.windows, score.truncated, None)
        for rank, (candidate, score, rerank_score) in enumerate(best_first, 1)
    ]
    return list(map(Context._make, judged))
