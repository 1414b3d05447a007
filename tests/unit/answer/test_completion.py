"""What endpoints have been seen to answer, and whatever else JSON can hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.answer.conftest import completion
from worker.answer.completion import Completion, read_completion, well_formed, without_thinking
from worker.domain import Usage
from worker.errors import RefusedError, TransientError

BASE = completion("Because [1].")


def choice(content: object = None, finish: object = "stop", **message: object) -> dict[str, Any]:
    return {**BASE, "choices": [{"index": 0, "finish_reason": finish, "message": {"content": content, **message}}]}


def read(body: object) -> Completion:
    return read_completion(body if isinstance(body, bytes) else json.dumps(body).encode())


USAGES = {
    "none": None,
    "empty": {},
    "a part": {"prompt_tokens": 5, "total_tokens": 11},
    "nulls": {"prompt_tokens": None, "completion_tokens": None},
    "texts": {"prompt_tokens": "5", "completion_tokens": "6"},
    "fractions": {"prompt_tokens": 5.5, "completion_tokens": 6},
    "switches": {"prompt_tokens": True, "completion_tokens": False},
    "less than nothing": {"prompt_tokens": -1, "completion_tokens": 6},
    "a list": [5, 6],
    "a number": 11,
}


@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES.keys())
def test_a_usage_that_is_no_count_is_none_and_costs_no_answer(usage: object) -> None:
    assert read({**BASE, "usage": usage}) == Completion("Because [1].", cut=False, usage=None)


def test_a_usage_of_more_digits_than_python_reads_is_none() -> None:
    body = json.dumps({**BASE, "usage": {"prompt_tokens": 1, "completion_tokens": 0}})
    assert read(body.replace('"completion_tokens": 0', f'"completion_tokens": {"9" * 5_000}').encode()).usage is None


def test_both_counts_are_the_usage() -> None:
    assert read(BASE).usage == Usage(11, 7)


TEXTS = {
    "parts": [{"type": "text", "text": "A "}, {"type": "text", "text": "B [1]."}],
    "parts that are texts": ["A ", "B [1]."],
    "parts of output": [{"type": "output_text", "text": "A B [1]."}],
    "a part of thinking": [{"type": "thinking", "thinking": "Hm [2]"}, {"type": "text", "text": "A B [1]."}],
    "parts that are none": [
        None,
        7,
        {"type": "image"},
        {"type": []},
        {"text": 5},
        {"type": "text", "text": "A B [1]."},
    ],
    "white space around": "\n A B [1].\n",
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS.keys())
def test_text_in_parts_is_joined(content: object) -> None:
    assert read(choice(content)).text == "A B [1]."


@pytest.mark.parametrize(
    ("content", "text"),
    [(r'"A \ud83d"', "A \ufffd"), (r'"A \ud83d\ude00"', "A 😀"), (r'[{"text": "\ud83d"}, {"text": "\ude00"}]', "😀")],
)
def test_halves_of_characters_are_joined_or_replaced(content: str, text: str) -> None:
    body = json.dumps(choice("HERE")).replace('"HERE"', content).encode()
    assert read(body).text == text


THOUGHTS = {
    "a block": "<think>\nPassage [2] … [3] …\n</think>\n\nA. [1]",
    "in capitals": "<THINK>no</THINK> A. [1]",
    "another name": "<thinking>no</thinking>A. [1]",
    "the opening mark is in the template": "I wonder [2].\n</think>\n\nA. [1]",
    "an opening mark inside": "<think>a <think> b</think>A. [1]",
    "one inside another": "<think>a <think>b</think> c</think> A. [1]",
    "other marks": "◁think▷no [2]◁/think▷A. [1]",
    "brackets": "[THINK]no [2][/THINK]A. [1]",
    "twice": "<think>a</think><think>b</think>A. [1]",
}


@pytest.mark.parametrize("content", THOUGHTS.values(), ids=THOUGHTS.keys())
def test_thinking_is_no_part_of_the_answer(content: str) -> None:
    assert read(choice(content, reasoning_content="Hm [2]", reasoning="Hm [3]")).text == "A. [1]"


def test_thinking_between_parts_of_an_answer_leaves_both() -> None:
    assert without_thinking("A <think>x</think>B") == "A B"


def test_a_mark_that_is_a_word_of_the_answer_stays() -> None:
    assert read(choice("Models write <think> before they think [1].")).text.startswith("Models write <think> before")


REFUSALS = {
    "the filter": (choice(None, "content_filter"), "llm_declined", "finish_reason content_filter"),
    "the filter, halfway": (choice("Because", "content_filter"), "llm_declined", "finish_reason content_filter"),
    "a refusal": (choice(None, refusal="I can't help."), "llm_declined", "refusal: I can't help."),
    "a part that refuses": (choice([{"type": "refusal", "refusal": "No."}]), "llm_declined", "refusal: No."),
    "a tool": (choice(None, "tool_calls", tool_calls=[{"id": "1"}]), "llm_declined", "tool_calls"),
    "a tool, after words": (choice("Let me look.", "tool_calls"), "llm_declined", "tool_calls"),
    "a tool, ended": (choice("", "stop", tool_calls=[{"id": "1"}]), "llm_declined", "tool_calls"),
    "no room": (choice("", "length"), "llm_out_of_tokens", "finish_reason length"),
    "no room beside thinking": (choice("<think>Well, [1]", "length"), "llm_out_of_tokens", "finish_reason length"),
    "no room beside thinking elsewhere": (
        choice(None, "length", reasoning_content="Hm"),
        "llm_out_of_tokens",
        "length",
    ),
    "nothing": (choice(None), "llm_no_answer", "finish_reason stop"),
    "white space": (choice(" \n"), "llm_no_answer", "finish_reason stop"),
    "thinking alone": (choice("<think>a</think>"), "llm_no_answer", "finish_reason stop"),
    "nothing, and no reason": (choice(None, None), "llm_no_answer", "finish_reason None"),
    "an error that is the request's": ({"error": {"code": 400, "message": "too long"}}, "llm_refused", "too long"),
}


@pytest.mark.parametrize(("body", "code", "why"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_named_and_would_be_repeated(body: object, code: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as raised:
        read(body)
    assert raised.value.code == code


NO_COMPLETIONS = {
    "no message": ({**BASE, "choices": [{"finish_reason": "stop"}]}, "no message"),
    "a null message": ({**BASE, "choices": [{"message": None}]}, "no message"),
    "a text for a message": ({**BASE, "choices": [{"message": "Because"}]}, "no message"),
    "a null choice": ({**BASE, "choices": [None]}, "no message"),
    "no choices": ({**BASE, "choices": []}, "no message"),
    "choices that are an object": ({**BASE, "choices": {"0": {}}}, "no message"),
    "a list": ([1], "no message"),
    "a text": ("x", "no message"),
    "null": (None, "no message"),
    "a page": (b"<html>502", "no JSON.*<html>502"),
    "nothing": (b"", "no JSON"),
    "no text": (b"\xff\xfe\xfa", "no JSON"),
    "without end": (b"[" * 100_000, "no JSON"),
    "an error": ({"error": {"message": "over\nloaded"}}, "over loaded"),
    "an error of 503": ({"error": {"message": "overloaded", "code": 503}}, "overloaded"),
    "an error that is a text": ({"error": "overloaded"}, "overloaded"),
    "an error in a choice": (
        {"choices": [{"error": {"message": "overloaded"}, "message": {"content": ""}}]},
        "overloaded",
    ),
    "broken off": (choice("Beca", "error"), "finish_reason error"),
}


@pytest.mark.parametrize(("body", "why"), NO_COMPLETIONS.values(), ids=NO_COMPLETIONS.keys())
def test_what_is_no_completion_may_pass_and_is_quoted(body: object, why: str) -> None:
    with pytest.raises(TransientError, match=why) as raised:
        read(body)
    assert not isinstance(raised.value, RefusedError)


def test_an_error_of_null_is_none() -> None:
    assert read({**BASE, "error": None}).text == "Because [1]."


@pytest.mark.parametrize(("finish", "cut"), [("stop", False), ("length", True), ("MAX_TOKENS", True), (7, False)])
def test_an_answer_that_ended_at_its_length_is_cut(finish: object, cut: bool) -> None:
    assert read(choice("Because", finish)).cut is cut


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["text", "length"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "code", "message", "refusal"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(usage=JSON, content=JSON, finish=JSON, refusal=JSON, calls=JSON, error=JSON, message=JSON, odd=st.booleans())
def test_whatever_a_body_holds_it_is_an_answer_or_an_error_of_ours(
    usage: object,
    content: object,
    finish: object,
    refusal: object,
    calls: object,
    error: object,
    message: object,
    odd: bool,
) -> None:
    written = message if odd else {"content": content, "refusal": refusal, "tool_calls": calls}
    body = {"choices": [{"finish_reason": finish, "message": written}], "usage": usage, "error": error}
    try:
        answered = read(body)
    except TransientError as of_ours:
        f"{of_ours.code} {of_ours}".encode()
    else:
        assert answered.text.strip()
        answered.text.encode()


@given(st.binary(max_size=40))
def test_whatever_bytes_come_they_are_an_error_of_ours(body: bytes) -> None:
    with pytest.raises(TransientError):
        read_completion(body)


@given(st.text(alphabet=st.characters(), max_size=20) | st.text(alphabet="\ud83d\ude00a", max_size=6))
def test_a_well_formed_text_can_be_written_and_stays(text: str) -> None:
    once = well_formed(text)
    once.encode()
    assert well_formed(once) == once
