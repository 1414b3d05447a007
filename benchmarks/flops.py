"""How much arithmetic a pair needs: what a perfect scorer would do, padding and anything avoidable left out."""

from collections.abc import Iterable
from typing import Any


def pair_flops(config: Any, tokens: int) -> int:
    """Return the operations of a BERT-like encoder's matrix products for one sequence, 2 per multiply-add.

    Per layer: query, key, value and output projections, two of the feed-forward network, and attention's two products.
    Embeddings, softmax, normalisation and the head are left out: they are a few parts in a thousand.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    linear = 2 * tokens * (4 * hidden * hidden + 2 * hidden * inner)
    attention = 4 * tokens * tokens * hidden
    return int(layers * (linear + attention))


def total_flops(config: Any, tokens: Iterable[int]) -> int:
    return sum(pair_flops(config, each) for each in tokens)
