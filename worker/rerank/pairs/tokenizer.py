"""From texts to the token ids of (query, document) pairs: tokenised apart, cut, and put together.

The order of the file is that of a pair: what a scorer is given, the tokenizer that makes it, the document tokens it
keeps, how they are cut, and the template of special tokens, which is learnt once at start.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from worker.errors import FatalError
from worker.settings import RerankSettings

# A sentence cut by the end of one window is whole in the next one if it is no longer than this share of it.
OVERLAP = 8

Ints = NDArray[np.int32]


Asked = tuple[str, Sequence[str]]
"""A query and the documents that are to be scored for it."""


@dataclass(slots=True, eq=False)
class EncodedPair:
    """A query and a document, or one window of it, tokenised: what a scorer is given.

    Not to be changed; frozen, it would take twice as long to make, and a GPU scores it in ten microseconds.
    """

    input_ids: Ints
    """(tokens,): views of one array that the pairs of a query share."""
    token_type_ids: Ints
    """(tokens,)."""
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
        """Tokenise the pairs of one query; see ``Scorer``."""
        return self.encode_all([(query, documents)])[0]

    def encode_all(self, asked: Sequence[Asked]) -> list[list[EncodedPair]]:
        """Tokenise the pairs of several queries; see ``Scorer``."""
        if self._template is None:
            return [_plain_pairs(self._tokenizer, query, texts, self._max_tokens) for query, texts in asked]
        queries = _token_ids(self._tokenizer, [query for query, _ in asked])
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
            if len(query) + document.total <= room:
                pieces.append((len(query), document.ids, number, False, None))
                continue
            kept, _ = _longest_first(len(query), document.total, room)
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
    if at_most == 1:
        return [range(min(room, tokens))]
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

    def join(self, query: Ints, documents: Sequence[Ints]) -> tuple[list[Ints], list[Ints]]:
        """Return the ids and the type ids of the query's pair with each document, of which there is one at least."""
        head, tail = np.array([*self.before, *query.tolist(), *self.between], np.int32), np.array(self.after, np.int32)
        ids = np.concatenate([part for document in documents for part in (head, document, tail)])
        tokens = np.empty((len(documents), len(self.types)), np.int32)
        tokens[:] = len(self.before), len(query), len(self.between), 0, len(self.after)
        tokens[:, 3] = list(map(len, documents))
        types = np.repeat(np.tile(np.array(self.types, np.int32), len(documents)), tokens.ravel())
        ends = [0, *tokens.sum(axis=1).cumsum().tolist()]
        cuts = list(map(slice, ends, ends[1:]))
        return [ids[cut] for cut in cuts], [types[cut] for cut in cuts]


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
    parts = np.array(query_ids[: kept[0]], np.int32), np.array(document_ids[: kept[1]], np.int32)
    [ids], [types] = template.join(parts[0], [parts[1]])
    return np.array_equal(ids, plain.input_ids) and np.array_equal(types, plain.token_type_ids)


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
    return [
        EncodedPair(np.array(ids, np.int32), np.array(types, np.int32), document=number)
        for number, (ids, types) in enumerate(rows)
    ]


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's ids, whole and without special tokens. A fast tokenizer's alone."""
    backend = tokenizer.backend_tokenizer
    # A plain call of the tokenizer leaves its truncation behind.
    backend.no_truncation()
    backend.no_padding()
    # "fast": without offsets into the text, which nobody asks for and which take half of the time.
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
