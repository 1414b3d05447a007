"""From texts to the token ids of (query, document) pairs: tokenised apart, cut, and put together.

The order of the file is that of a pair: what a scorer is given, the tokenizer that makes it, the document tokens it
keeps, how they are cut, and the template of special tokens, which is learnt once at start.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from cachetools import LRUCache

from worker.errors import FatalError
from worker.settings import RerankSettings

# A sentence cut by the end of one window is whole in the next one if it is no longer than this share of it.
OVERLAP = 8


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A query and a document, or one window of it, tokenised: what a scorer is given."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int]
    document: int = 0
    """Which of the documents that were encoded together, from 0."""
    truncated: bool | None = None
    """Words of the document are in none of its pairs; None if that is not known."""
    window: range | None = None
    """Which of the document's tokens, where it was cut into windows."""

    @property
    def tokens(self) -> int:
        """Length in tokens, special tokens included: the unit of cost."""
        return len(self.input_ids)


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
            partial(_token_ids, tokenizer),
            documents=settings.token_cache_documents,
            max_tokens=self._max_windows * self._max_tokens,
        )

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        if not documents:
            return []
        if self._template is None:
            return _plain_pairs(self._tokenizer, query, documents, self._max_tokens)
        [query_ids] = _token_ids(self._tokenizer, [query])
        room = self._max_tokens - self._template.special_tokens
        pairs = []
        for number, document in enumerate(self._documents.of(documents)):
            kept, _ = _longest_first(len(query_ids), document.total, room)
            read = windows(document.total, room - kept, self._max_windows)
            for window in read:
                ids, types = self._template.join(query_ids[:kept], document.ids[window.start : window.stop])
                cut = read[-1].stop < document.total
                pairs.append(EncodedPair(ids, types, number, truncated=cut, window=window if len(read) > 1 else None))
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


@dataclass(frozen=True, slots=True)
class DocumentTokens:
    """A document's ids, as many of them as may ever be read."""

    ids: "array[int]"
    total: int
    """How many the whole document has."""


class TokenCache:
    """Token ids by text, those used last: recall returns the same documents for many questions. One thread at a time.

    Bounded by ``documents`` entries of at most ``max_tokens`` tokens, 4 bytes each. The text itself is not kept but its
    digest: under the same id a store may have another text by now.
    """

    def __init__(
        self, tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]], *, documents: int, max_tokens: int
    ) -> None:
        self._tokenize = tokenize
        self._max_tokens = max_tokens
        self._kept: LRUCache[bytes, DocumentTokens] = LRUCache(documents)

    def of(self, documents: Sequence[str]) -> list[DocumentTokens]:
        """Return the tokens of each document, in order; those not known are tokenised in one call."""
        # A lone surrogate, which no UTF-8 has, must not fail the query here: it is for the tokenizer to judge.
        keys = [hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest() for text in documents]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: text for key, text in zip(keys, documents, strict=True) if key not in found}
        tokenized = self._tokenize(list(missing.values())) if missing else []
        for key, ids in zip(missing, tokenized, strict=True):
            found[key] = DocumentTokens(array("i", ids[: self._max_tokens]), len(ids))
            if self._kept.maxsize:  # a cache of no entries refuses them
                self._kept[key] = found[key]
        return [found[key] for key in keys]


def windows(tokens: int, room: int, at_most: int) -> list[range]:
    """Return the windows, of ``room`` tokens each and the last of what is left, that cover a document in order."""
    overlap = room // OVERLAP
    starts = range(0, max(1, tokens - overlap), max(1, room - overlap))[:at_most]
    return [range(start, min(start + room, tokens)) for start in starts]


def _longest_first(query: int, document: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each are kept in ``room`` tokens, as the tokenizers' strategy of that name cuts."""
    if query + document <= room:
        return query, document
    shorter = min(query, document, room // 2)
    return (room - shorter, shorter) if query > document else (shorter, room - shorter)


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """``before query between document after``: the special tokens of a pair, and the type ids of its five parts."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[int, ...]

    @property
    def special_tokens(self) -> int:
        """How many tokens of a pair are no text."""
        return len(self.before) + len(self.between) + len(self.after)

    def join(self, query: Sequence[int], document: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the pair's ids and type ids."""
        parts = (self.before, query, self.between, document, self.after)
        kinds = [kind for part, kind in zip(parts, self.types, strict=True) for _ in range(len(part))]
        return [*self.before, *query, *self.between, *document, *self.after], kinds


def learn_template(tokenizer: Any, max_tokens: int) -> PairTemplate | None:
    """Return the template of a tokenizer's pairs; None if pairs put together by it are not the tokenizer's own."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    encoded = tokenizer("a", "b", return_token_type_ids=True)
    ids, types, sides = encoded["input_ids"], encoded["token_type_ids"], encoded.sequence_ids(0)
    if 0 not in sides or 1 not in sides:
        return None
    ends = [0, sides.index(0), _after(sides, 0), sides.index(1), _after(sides, 1), len(ids)]
    parts = [slice(start, stop) for start, stop in pairwise(ends)]
    before, _, between, _, after = (tuple(ids[part]) for part in parts)
    template = PairTemplate(before, between, after, tuple(types[part.start] if types[part] else 0 for part in parts))
    same = all(_agrees(template, tokenizer, query, document, max_tokens) for query, document in _probes(max_tokens))
    return template if same else None


def _after(sides: Sequence[int | None], side: int) -> int:
    """Return the position after a text's last token."""
    return len(sides) - list(reversed(sides)).index(side)


def _probes(max_tokens: int) -> list[tuple[str, str]]:
    """Return pairs with accents, a script without spaces and punctuation, and pairs that are cut on either side."""
    # No longer than need be: of two texts that are both cut, the tokenizer also makes all pairs of what is cut off.
    long = "one word and another " * (max_tokens // 3)
    odd = "in 東京, it's No. 3-5 (2nd floor)…"
    return [("Where's the café?", odd), ("short", long), (long, "short"), (long, f"{odd} {long}")]


def _agrees(template: PairTemplate, tokenizer: Any, query: str, document: str, max_tokens: int) -> bool:
    [plain] = _plain_pairs(tokenizer, query, [document], max_tokens)
    query_ids, document_ids = _token_ids(tokenizer, [query, document])
    kept = _longest_first(len(query_ids), len(document_ids), max_tokens - template.special_tokens)
    ids, types = template.join(query_ids[: kept[0]], document_ids[: kept[1]])
    return (ids, types) == (plain.input_ids, plain.token_type_ids)


def _plain_pairs(tokenizer: Any, query: str, documents: Sequence[str], max_tokens: int) -> list[EncodedPair]:
    """Have the tokenizer itself make the pairs, cut as CrossEncoder cuts them: what any faster way must equal."""
    encoded = tokenizer(
        [query] * len(documents),
        list(documents),
        # The longer text gives way: the document, unless the query alone takes more than half the window.
        # `only_second` would keep such a query whole and leave of the document a word, or nothing.
        truncation="longest_first",
        max_length=max_tokens,
        return_token_type_ids=True,
    )
    rows = zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
    return [EncodedPair(ids, types, document=number) for number, (ids, types) in enumerate(rows)]


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's ids, whole and without special tokens. A fast tokenizer's alone."""
    backend = tokenizer.backend_tokenizer
    # A plain call of the tokenizer leaves its truncation behind.
    backend.no_truncation()
    backend.no_padding()
    # "fast": without offsets into the text, which nobody asks for and which take half of the time.
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
