"""Two orders of candidates into one, by reciprocal rank. Short: it is one formula."""

from collections.abc import Sequence

RANK_CONSTANT = 60
"""How little the first ranks count beside the next (Cormack, Clarke, Büttcher 2009)."""


def fused(*orders: Sequence[str]) -> list[str]:
    """Return the ids of all orders, best first: by the sum of ``1 / (60 + rank)``; ties as the first order has them."""
    scores: dict[str, float] = {}
    for order in orders:
        for rank, identifier in enumerate(order, start=1):
            scores[identifier] = scores.get(identifier, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sorted(scores, key=lambda identifier: -scores[identifier])
