"""The token ids of documents that come again: recall returns the same ones for many questions."""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DocumentTokens:
    """A document's ids, as many of them as may ever be read."""

    ids: "array[int]"
    total: int
    """How many the whole document has."""


class TokenCache:
    """Token ids by text, those used last. One thread at a time.

    Bounded by ``documents`` entries of at most ``max_tokens`` tokens, 4 bytes each. The text itself is not kept but its
    digest: under the same id a store may have another text by now.
    """

    def __init__(
        self, tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]], *, documents: int, max_tokens: int
    ) -> None:
        self._tokenize = tokenize
        self._documents = documents
        self._max_tokens = max_tokens
        self._known: OrderedDict[bytes, DocumentTokens] = OrderedDict()

    def of(self, documents: Sequence[str]) -> list[DocumentTokens]:
        """Return the tokens of each document, in order; those not known are tokenised in one call."""
        # A lone surrogate, which no UTF-8 has, must not fail the query here: it is for the tokenizer to judge.
        keys = [hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest() for text in documents]
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = {key: text for key, text in zip(keys, documents, strict=True) if key not in found}
        tokenized = self._tokenize(list(missing.values())) if missing else []
        for key, ids in zip(missing, tokenized, strict=True):
            found[key] = DocumentTokens(array("i", ids[: self._max_tokens]), len(ids))
        for key, tokens in found.items():
            self._known[key] = tokens
            self._known.move_to_end(key)
        while len(self._known) > self._documents:
            self._known.popitem(last=False)
        return [found[key] for key in keys]
