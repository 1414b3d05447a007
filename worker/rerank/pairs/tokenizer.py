"""From texts to the token ids of pairs, and from those to a padded batch."""

from collections.abc import Sequence
from typing import Any

import torch

from worker.errors import FatalError
from worker.rerank.pairs.template import learn_template, longest_first, plain_pairs, token_ids
from worker.rerank.pairs.token_cache import TokenCache
from worker.rerank.pairs.windows import windows
from worker.rerank.scorer import EncodedPair
from worker.settings import RerankSettings


class PairTokenizer:
    """A tokenizer for (query, document) pairs. One thread at a time.

    Query and documents are tokenised apart, each once, and put together: the pairs are the tokenizer's own to the last
    id. Where they would not be, which a look at some pairs tells, the tokenizer makes them.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, settings: RerankSettings) -> None:
        """Pairs are cut to ``max_tokens`` or to the model's own window, whichever is shorter.

        FatalError if this tokenizer can't do what ``rerank.long_documents`` asks for.
        """
        self._tokenizer = tokenizer
        self._max_tokens = min(max_tokens, int(tokenizer.model_max_length))
        self._max_windows = 1 if settings.long_documents == "truncate" else settings.max_windows
        self._template = learn_template(tokenizer, self._max_tokens)
        if self._template is None and settings.long_documents != "truncate":
            raise FatalError(
                f"rerank.long_documents is {settings.long_documents}, but {type(tokenizer).__name__} makes pairs in a "
                "way of its own: set truncate"
            )
        self._documents = TokenCache(
            self._token_ids,
            documents=settings.token_cache_documents,
            max_tokens=self._max_windows * self._max_tokens,
        )

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        if not documents:
            return []
        if self._template is None:
            return plain_pairs(self._tokenizer, query, documents, self._max_tokens)
        [query_ids] = self._token_ids([query])
        room = self._max_tokens - self._template.special_tokens
        pairs = []
        for number, document in enumerate(self._documents.of(documents)):
            kept, _ = longest_first(len(query_ids), document.total, room)
            read = windows(document.total, room - kept, self._max_windows)
            for window in read:
                ids, types = self._template.join(query_ids[:kept], document.ids[window.start : window.stop])
                pairs.append(EncodedPair(ids, types, number, truncated=read[-1].stop < document.total))
        return pairs

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return token_ids(self._tokenizer, texts)


def padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Return rows of ids as one tensor, each filled up to the longest."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.long)


def mask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the attention mask of ``padded``: 1 where there is a token."""
    return padded([[1] * len(row) for row in rows], 0)
