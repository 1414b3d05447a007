"""From texts to the token ids of (query, document) pairs: tokenised apart, cut, and put together.

The order of the file is that of a pair: the tokenizer that makes it, the document tokens it keeps, how they are cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import numpy as np
from cachetools import LRUCache

from worker.errors import FatalError
from worker.rerank.pairs.batch import EncodedPair, Ints
from worker.rerank.pairs.template import learn_template, longest_first, plain_pairs, token_ids
from worker.settings import RerankSettings

# A sentence cut by the end of one window is whole in the next one if it is no longer than this share of it.
OVERLAP = 8


Asked = tuple[str, Sequence[str]]
"""A query and the documents that are to be scored for it."""


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
            partial(token_ids, tokenizer),
            documents=settings.token_cache_documents,
            max_tokens=self._max_windows * self._max_tokens,
        )

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise the pairs of one query; see ``Scorer``."""
        return self.encode_all([(query, documents)])[0]

    def encode_all(self, asked: Sequence[Asked]) -> list[list[EncodedPair]]:
        """Tokenise the pairs of several queries; see ``Scorer``."""
        if self._template is None:
            return [plain_pairs(self._tokenizer, query, texts, self._max_tokens) for query, texts in asked]
        queries = token_ids(self._tokenizer, [query for query, _ in asked])
        documents = iter(self._documents.of([text for _, texts in asked for text in texts]))
        return [
            self._pairs(np.array(ids, np.int32), list(islice(documents, len(texts))))
            for ids, (_, texts) in zip(queries, asked, strict=True)
        ]

    def _pairs(self, query: Ints, documents: "Sequence[DocumentTokens]") -> list[EncodedPair]:
        assert self._template is not None  # noqa: S101 - or nothing is put together
        room = self._max_tokens - self._template.special_tokens
        pieces: list[_Piece] = []
        for number, document in enumerate(documents):
            kept, fits = longest_first(len(query), document.total, room)
            if fits == document.total or self._max_windows == 1:
                pieces.append((kept, document.ids[:fits], number, fits < document.total, None))
                continue
            read = windows(document.total, room - kept, self._max_windows)
            cut = read[-1].stop < document.total
            for window in read:
                part = document.ids[window.start : window.stop]
                pieces.append((kept, part, number, cut, window if len(read) > 1 else None))
        pairs: list[EncodedPair] = []
        # One group, but where a long query gives way to some of the documents.
        for kept, alike in groupby(pieces, key=itemgetter(0)):
            _, parts, numbers, cuts, read_windows = zip(*alike, strict=True)
            ids, types = self._template.join(query[:kept], parts)
            pairs += map(EncodedPair, ids, types, numbers, cuts, read_windows)
        return pairs

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        """Return which characters of each document its window of tokens covers; see ``Scorer``."""
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encoded = backend.encode_batch(list(documents), add_special_tokens=False)
        # A token may stand for no character, e.g. for a space put before the text: neither end rests on one alone.
        parts = [each.offsets[window.start : window.stop] for each, window in zip(encoded, windows, strict=True)]
        return [(min(start for start, _ in part), max(stop for _, stop in part)) for part in parts]


_Piece = tuple[int, Ints, int, bool, range | None]
"""What goes into one pair: how many tokens of the query, and the last four fields of ``EncodedPair``."""


@dataclass(frozen=True, slots=True, eq=False)
class DocumentTokens:
    """A document's ids, as many of them as may ever be read."""

    ids: Ints
    total: int
    """How many the whole document has."""


class TokenCache:
    """Token ids by text, those used last: recall returns the same documents for many questions. One thread at a time.

    Bounded by ``documents`` entries of a text and at most ``max_tokens`` tokens, 4 bytes each. By text and not by id:
    under the same id a store may have another text by now.
    """

    def __init__(
        self, tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]], *, documents: int, max_tokens: int
    ) -> None:
        self._tokenize = tokenize
        self._max_tokens = max_tokens
        self._kept: LRUCache[str, DocumentTokens] = LRUCache(documents)

    def of(self, documents: Sequence[str]) -> list[DocumentTokens]:
        """Return the tokens of each document, in order; those not known are tokenised in one call."""
        kept = list(map(self._kept.get, documents))
        missing = list(dict.fromkeys(text for text, tokens in zip(documents, kept, strict=True) if tokens is None))
        tokenized = self._tokenize(missing) if missing else []
        made = dict(zip(missing, map(self._tokens, tokenized), strict=True))
        if self._kept.maxsize:  # a cache of no entries refuses them
            self._kept.update(made)
        return [made[text] if tokens is None else tokens for text, tokens in zip(documents, kept, strict=True)]

    def _tokens(self, ids: Sequence[int]) -> DocumentTokens:
        return DocumentTokens(np.array(ids[: self._max_tokens], np.int32), len(ids))


def windows(tokens: int, room: int, at_most: int) -> list[range]:
    """Return the windows, of ``room`` tokens each and the last of what is left, that cover a document in order."""
    overlap = room // OVERLAP
    starts = range(0, max(1, tokens - overlap), max(1, room - overlap))[:at_most]
    return [range(start, min(start + room, tokens)) for start in starts]
