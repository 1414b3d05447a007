"""Quotations: the best sentences, in the documents' order, each with its passage's number."""

# ruff: noqa: RUF001 - marks of other scripts are what is read

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.answer.extractive import MAX_CHARS, ExtractiveAnswerer, sentences
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
    assert await answer_from([context._replace(window=window)]) == ("The sluice opens at dawn. [1]", ["d1"])


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Статья одна. Статья вторая здесь. Статья три.", "Статья вторая здесь. [1]"),
        ("第一条。第二条很长。第三条。", "第二条很长。 [1]"),
    ],
)
async def test_one_sentence_of_any_script_is_quoted_and_not_the_passage(text: str, quoted: str) -> None:
    assert await answer(text, sentences=1) == (quoted, ["d1"])


TEXTS = {
    "English": ("The log is kept. Is it read? It is so!", ["The log is kept.", "Is it read?", "It is so!"]),
    "Russian": ("Статья одна. Статья вторая. И третья.", ["Статья одна.", "Статья вторая.", "И третья."]),
    "Chinese": ("第一条。第二条！第三条？", ["第一条。", "第二条！", "第三条？"]),
    "Japanese": ("一番目です。二番目です。", ["一番目です。", "二番目です。"]),
    "Hindi": ("यह एक है। यह दो है।", ["यह एक है।", "यह दो है।"]),
    "Arabic": ("هل هذا سؤال؟ نعم هو كذلك.", ["هل هذا سؤال؟", "نعم هو كذلك."]),
    "a lower case after a stop": ("See e.g. the log of May. It is kept.", ["See e.g. the log of May.", "It is kept."]),
    "a number": ("Version 1.5 of it keeps its logs. So it does.", ["Version 1.5 of it keeps its logs.", "So it does."]),
    "an abbreviation": ("Dr. Smith keeps the logs. She does so.", ["Dr. Smith keeps the logs.", "She does so."]),
    "a date": ("Am 3. Mai kam er an. Er blieb lange.", ["Am 3. Mai kam er an.", "Er blieb lange."]),
    "a short answer": ("Is it kept? Yes. It is kept for ever.", ["Is it kept?", "Yes. It is kept for ever."]),
    "a short end": ("It is kept for ever. Yes.", ["It is kept for ever. Yes."]),
    "lines": ("Logs\nThey are kept for ever\n\n- and a day", ["They are kept for ever", "- and a day"]),
    "nothing else": ("Logs", ["Logs"]),
    "no words": (" \n ", []),
    "half a character": ("The log \ud83d is kept. It is so.", ["The log \ufffd is kept.", "It is so."]),
}


@pytest.mark.parametrize(("text", "found"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_has_its_sentences(text: str, found: list[str]) -> None:
    assert sentences(text) == found


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["Ab. ", "no ", "是。", "\n", "! ", "word"]), max_size=60).map("".join)
)
def test_sentences_stand_in_the_text_in_order(text: str) -> None:
    read = 0
    for sentence in sentences(text):
        assert sentence.strip()
        read = text.index(sentence, read) + len(sentence)


@pytest.mark.parametrize(
    "unit", ["Ab. ", "word ", "第一条。", "x", "! ", "\n", "This is a sentence of the usual length. "]
)
def test_of_a_long_text_the_beginning_is_read_and_no_half_of_a_sentence(unit: str) -> None:
    # All of it would take minutes.
    found = sentences(unit * 100_000)
    assert sum(map(len, found)) <= MAX_CHARS
    if unit.startswith("This"):
        assert set(found) == {unit.strip()}
