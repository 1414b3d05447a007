"""Quotations: the best sentences, in the documents' order, each with its passage's number."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from worker.answer.extractive import ExtractiveAnswerer
from worker.domain import Candidate, Context, Query

QUERY = Query("q", "Why?", "docs", top_k=20, top_n=3)


class FakeLongestFirst:
    """A reranker that likes long texts."""

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        longest = sorted(candidates, key=lambda candidate: -len(candidate.text))
        return [Context(candidate, rank, float(len(candidate.text)), 1.0) for rank, candidate in enumerate(longest, 1)]


def contexts(*texts: str) -> list[Context]:
    return [Context(Candidate(f"d{n}", text, n, 0.1), n, 1.0, 1.0) for n, text in enumerate(texts, 1)]


async def answer(*texts: str, sentences: int = 2, margin: float = 100.0) -> tuple[str, list[str]]:
    return await answer_from(contexts(*texts), sentences=sentences, margin=margin)


async def answer_from(given: list[Context], *, sentences: int = 2, margin: float = 100.0) -> tuple[str, list[str]]:
    answerer = ExtractiveAnswerer(FakeLongestFirst(), cross_encoder="fake", sentences=sentences, margin=margin)
    assert answerer.model_name == "extractive:fake"
    made = await answerer.answer(QUERY, given)
    assert made.model == answerer.model_name
    return made.text, list(made.citations)


async def test_the_best_sentences_are_quoted_with_their_passage() -> None:
    text, citations = await answer(
        "This first sentence is short. This second sentence is clearly the longest of all of them here.",
        "In another passage stands this one, of middling length.",
    )
    assert text == (
        "This second sentence is clearly the longest of all of them here. [1] "
        "In another passage stands this one, of middling length. [2]"
    )
    assert citations == ["d1", "d2"]


async def test_a_passage_without_full_stops_is_quoted_whole() -> None:
    assert await answer("no stops here") == ("no stops here [1]", ["d1"])


async def test_an_abbreviation_inside_a_sentence_may_not_lose_text() -> None:
    text, _ = await answer("Version 1.5 of the broker, e.g. the one from May, keeps its logs.", sentences=9)
    assert text == "Version 1.5 of the broker, e.g. the one from May, keeps its logs. [1]"


async def test_a_sentence_far_below_the_best_is_not_quoted() -> None:
    best, near, far = "x" * 40 + ".", "y" * 38 + ".", "z" * 30 + "."
    assert await answer(best, near, far, sentences=3, margin=2.0) == (f"{best} [1] {near} [2]", ["d1", "d2"])
    assert await answer(best, near, far, sentences=3, margin=1.0) == (f"{best} [1]", ["d1"])


async def test_a_long_document_is_quoted_from_its_best_window() -> None:
    [context] = contexts("Far longer and of no use whatever is this. The sluice opens at dawn. And this.")
    window = (context.candidate.text.index("The"), context.candidate.text.index(" And"))
    assert await answer_from([replace(context, window=window)]) == ("The sluice opens at dawn. [1]", ["d1"])


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Статья одна. Статья вторая здесь. Статья три.", "Статья вторая здесь. [1]"),
        ("第一条。第二条很长。第三条。", "第二条很长。 [1]"),
    ],
)
async def test_one_sentence_of_any_script_is_quoted_and_not_the_passage(text: str, quoted: str) -> None:
    assert await answer(text, sentences=1) == (quoted, ["d1"])
