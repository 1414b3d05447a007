"""The workload is the same on every machine, and another one each round."""

from typing import Any

import pytest

from benchmarks.workload import CANDIDATES, EVEN_TOKENS, QUERIES, Workload, described
from worker.documents.document import Document


class Words:
    """A tokenizer whose tokens are words."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()

    def __call__(self, texts: Any, pairs: Any = None, **options: Any) -> dict[str, Any]:
        if pairs is None:
            ends = [index for index, letter in enumerate(f"{texts} ") if letter == " "]
            return {"offset_mapping": [(0, end) for end in ends]}
        window = options["max_length"]
        return {
            "input_ids": [[0] * min(len(f"{a} {b}".split()) + 3, window) for a, b in zip(texts, pairs, strict=True)]
        }


@pytest.fixture
def workload() -> Workload:
    articles = [
        Document(
            f"id-{number}",
            f"the start of {number}. {'word ' * (150 + number)}",
            "s",
            "o",
            {"title": f"title {number}", "topic": "t"},
        )
        for number in range(40)
    ]
    return Workload(articles, Words(), max_length=512, scale=1)


def test_a_round_is_the_same_each_time_and_unlike_the_next(workload: Workload) -> None:
    first, again, second = (workload.round(number, ["short"])[0] for number in (0, 0, 1))
    assert first == again
    assert first.queries[0].texts != second.queries[0].texts


def test_each_query_has_twenty_candidates_and_one_more_query_is_asked_alone(workload: Workload) -> None:
    mix = workload.round(0, ["medium"])[0]
    assert len(mix.queries) == QUERIES["medium"] + 1
    assert {len(asked.candidates) for asked in mix.queries} == {CANDIDATES}
    assert described([mix])["pairs_at_once"] == QUERIES["medium"] * CANDIDATES


def test_mixes_differ_in_length_and_the_even_one_has_one_length(workload: Workload) -> None:
    short, medium, long, even = workload.round(0, ["short", "medium", "long", "even"])
    assert max(short.tokens) < min(medium.tokens)
    assert sum(medium.tokens) / len(medium.tokens) < sum(long.tokens) / len(long.tokens)
    assert set(even.tokens) == {EVEN_TOKENS}
