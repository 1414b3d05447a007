"""From texts to the token ids of pairs, and from those to a padded batch."""

from collections.abc import Sequence
from typing import Any

import torch

from worker.rerank.base import EncodedPair


class PairTokenizer:
    """A fast tokenizer for (query, document) pairs. One thread at a time."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Pairs are cut to ``max_tokens`` or to the model's own window, whichever is shorter."""
        self._tokenizer = tokenizer
        self._max_tokens = min(max_tokens, int(tokenizer.model_max_length))

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        if not documents:
            return []
        encoded = self._tokenizer(
            [query] * len(documents),
            list(documents),
            # As CrossEncoder cuts. The longer text gives way: the document, unless the query alone takes more than half
            # the window. `only_second` would keep such a query whole and leave of the document a word, or nothing.
            truncation="longest_first",
            max_length=self._max_tokens,
            return_token_type_ids=True,
        )
        return [
            EncodedPair(ids, types) for ids, types in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
        ]


def padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Return rows of ids as one tensor, each filled up to the longest."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.long)


def mask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the attention mask of ``padded``: 1 where there is a token."""
    return padded([[1] * len(row) for row in rows], 0)
