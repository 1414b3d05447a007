"""Sentences of any language, quoted as they stand."""

# ruff: noqa: RUF001 - marks of other scripts are what is read

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.answer.completion import well_formed
from worker.answer.sentences import MAX_CHARS, sentences

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
        read = well_formed(text).index(sentence, read) + len(sentence)


@pytest.mark.parametrize(
    "unit", ["Ab. ", "word ", "第一条。", "x", "! ", "\n", "This is a sentence of the usual length. "]
)
def test_of_a_long_text_the_beginning_is_read_and_no_half_of_a_sentence(unit: str) -> None:
    # All of it would take minutes.
    found = sentences(unit * 100_000)
    assert sum(map(len, found)) <= MAX_CHARS
    if unit.startswith("This"):
        assert set(found) == {unit.strip()}
