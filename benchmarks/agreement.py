"""Whether two contenders judged alike: speed is worth nothing if the scores are others."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

BEST = 3


def agreement(reference: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Compare scores, one list a query, with the reference's."""
    both = list(zip(reference, scores, strict=True))
    differences = [abs(a - b) for mine, theirs in both for a, b in zip(mine, theirs, strict=True)]
    return {
        "max_difference": max(differences),
        "pairs_ordered_alike": _mean([_ordered_alike(mine, theirs) for mine, theirs in both]),
        "same_top_3": _mean([len(_best(mine) & _best(theirs)) / BEST for mine, theirs in both]),
    }


def _ordered_alike(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the share of a query's pairs of candidates that both put in one order: Kendall's tau, from 0 to 1."""
    pairs = list(combinations(range(len(mine)), 2))
    return _mean([float((mine[i] - mine[j]) * (theirs[i] - theirs[j]) > 0 or mine[i] == mine[j]) for i, j in pairs])


def _best(scores: Sequence[float]) -> set[int]:
    return set(sorted(range(len(scores)), key=lambda index: -scores[index])[:BEST])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
