"""How a tokenizer makes a pair: its template of special tokens, learnt once at start, and how it cuts two texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from worker.rerank.pairs.batch import EncodedPair, Ints


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """``before query between document after``: the special tokens of a pair, and the type ids of its parts.

    There are four, since ``after`` has the type of the document.
    """

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
        around = len(head) + len(tail)
        lengths = [around + len(document) for document in documents]
        ends = [0, *accumulate(lengths)]
        # Nothing but the document's length tells two pairs apart here, and what follows it has its type.
        longest = len(self.before), len(query), len(self.between), max(lengths) - len(head)
        types = np.repeat(np.array(self.types, np.int32), longest)
        return [ids[start:end] for start, end in pairwise(ends)], [types[:length] for length in lengths]


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
    template = PairTemplate(
        before, between, after, tuple(types[part.start] if types[part] else 0 for part in parts[:4])
    )
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
    [plain] = plain_pairs(tokenizer, query, [document], max_tokens)
    query_ids, document_ids = token_ids(tokenizer, [query, document])
    kept = longest_first(len(query_ids), len(document_ids), max_tokens - template.special_tokens)
    parts = np.array(query_ids[: kept[0]], np.int32), np.array(document_ids[: kept[1]], np.int32)
    [ids], [types] = template.join(parts[0], [parts[1]])
    return np.array_equal(ids, plain.input_ids) and np.array_equal(types, plain.token_type_ids)


def plain_pairs(tokenizer: Any, query: str, documents: Sequence[str], max_tokens: int) -> list[EncodedPair]:
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


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's ids, whole and without special tokens. A fast tokenizer's alone."""
    backend = tokenizer.backend_tokenizer
    # A plain call of the tokenizer leaves its truncation behind.
    backend.no_truncation()
    backend.no_padding()
    # "fast": without offsets into the text, which nobody asks for and which take half of the time.
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def longest_first(query: int, document: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each are kept in ``room`` tokens, as the tokenizers' strategy of that name cuts."""
    if query + document <= room:
        return query, document
    shorter = min(query, document, room // 2)
    return (room - shorter, shorter) if query > document else (shorter, room - shorter)
