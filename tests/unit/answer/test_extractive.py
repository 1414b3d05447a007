"""Quotations: the best sentences, in the documents' order, each with its passage's number."""

from collections.abc import Sequence

from worker.answer.extractive import ExtractiveAnswerer
from worker.domain import Candidate, Context, Query

QUERY = Query("q", "Why?", "docs", top_k=20, top_n=3)


class FakeLongestFirst:
    """A reranker that likes long texts."""

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        longest = sorted(candidates, key=lambda candidate: -len(candidate.text))
        return [Context(candidate, rank, 1.0, 1.0) for rank, candidate in enumerate(longest, 1)]


def contexts(*texts: str) -> list[Context]:
    return [Context(Candidate(f"d{n}", text, n, 0.1), n, 1.0, 1.0) for n, text in enumerate(texts, 1)]


async def answer(*texts: str, sentences: int = 2) -> tuple[str, list[str]]:
    answerer = ExtractiveAnswerer(FakeLongestFirst(), cross_encoder="fake", sentences=sentences)
    assert answerer.model_name == "extractive:fake"
    made = await answerer.answer(QUERY, contexts(*texts))
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
