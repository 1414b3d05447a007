"""The real OpenAI client against a server that misbehaves as real ones do."""

import asyncio
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from tests.fakes.endpoint import FakeEndpoint
from tests.patience import HANG_S
from tests.unit.answer.conftest import CONTEXTS, QUERY, completion
from worker.answer.llm import LlmAnswerer
from worker.errors import ExpiredError, RefusedError, TransientError
from worker.settings import AnswerSettings


async def ask(endpoint: FakeEndpoint, **settings: object) -> Any:
    llm = LlmAnswerer(
        AnswerSettings.model_validate({"timeout_s": 5, **settings}), model="tiny", base_url=endpoint.base_url
    )
    try:
        return await llm.answer(QUERY, CONTEXTS)
    finally:
        await llm.close()


async def test_an_answer_carries_its_citations_model_and_tokens(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, completion("Because [2]. Also [9]."))
    answer = await ask(endpoint, api_key="secret", max_tokens=42)
    assert answer.text == "Because [2]. Also."
    assert answer.citations == ["d2"]
    assert answer.model == "tiny"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    [request] = endpoint.requests
    assert request["authorization"] == "Bearer secret"
    assert request["body"]["max_tokens"] == 42
    assert [message["role"] for message in request["body"]["messages"]] == ["system", "user"]
    assert "passage 1" not in request["body"]["messages"][0]["content"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_endpoint_is_asked_again(endpoint: FakeEndpoint, status: int) -> None:
    endpoint.reply(status, "busy", Retry_After="0").reply(200, completion("Fine [1]."))
    assert (await ask(endpoint)).text == "Fine [1]."
    assert len(endpoint.requests) == 2


async def test_tries_are_limited(endpoint: FakeEndpoint) -> None:
    endpoint.reply(503, "busy", Retry_After="0")
    with pytest.raises(TransientError, match="503"):
        await ask(endpoint, attempts=2)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_will_not_change_is_not_asked_again(endpoint: FakeEndpoint, status: int) -> None:
    endpoint.reply(status, {"error": {"message": "no such thing"}})
    with pytest.raises(RefusedError, match=str(status)):
        await ask(endpoint)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"message": "Incorrect API key provided: sk-secret, team t-secret"}}),
        (200, {"error": {"message": "Incorrect API key provided: sk-secret, team t-secret"}}),
        (200, "no key like sk-secret for t-secret"),
    ],
)
async def test_an_endpoint_that_repeats_a_secret_tells_it_nobody(
    endpoint: FakeEndpoint, status: int, body: object
) -> None:
    endpoint.reply(status, body)
    with pytest.raises(TransientError, match="key") as raised:
        await ask(endpoint, api_key="sk-secret", headers={"X-Team": "t-secret"}, attempts=1)
    assert "secret" not in str(raised.value)


async def test_what_is_no_completion_is_asked_for_again(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, "<html>").reply(200, {**completion("x"), "choices": []}).reply(200, completion("Fine [1]."))
    assert (await ask(endpoint)).text == "Fine [1]."
    assert len(endpoint.requests) == 3


async def test_a_model_that_declines_is_not_asked_again_and_not_left_alone(endpoint: FakeEndpoint) -> None:
    filtered = completion(None)
    filtered["choices"][0]["finish_reason"] = "content_filter"
    for _ in range(9):
        endpoint.reply(200, filtered)
    endpoint.reply(200, completion("Fine [1]."))
    settings = AnswerSettings(timeout_s=5, circuit_failures=1, patience_s=600)
    llm = LlmAnswerer(settings, model="tiny", base_url=endpoint.base_url)
    for asked in range(1, 10):
        with pytest.raises(RefusedError, match="content_filter") as raised:
            await llm.answer(QUERY, CONTEXTS)
        assert raised.value.code == "llm_declined"
        assert len(endpoint.requests) == asked
    assert (await llm.answer(QUERY, CONTEXTS)).text == "Fine [1]."
    await llm.close()


async def test_an_answer_of_citations_that_point_nowhere_is_none(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, completion("[9]"))
    with pytest.raises(RefusedError) as raised:
        await ask(endpoint)
    assert raised.value.code == "llm_no_answer"


async def test_an_answer_says_that_it_is_cut_and_that_the_prompt_was(endpoint: FakeEndpoint) -> None:
    cut = completion("Because [1], and")
    cut["choices"][0]["finish_reason"] = "length"
    endpoint.reply(200, completion("Because [1].")).reply(200, cut)
    whole = await ask(endpoint)
    assert (whole.truncated, whole.prompt_truncated) == (False, False)
    partly = await ask(endpoint, passage_tokens=1)
    assert (partly.truncated, partly.prompt_truncated) == (True, True)


FIELDS = {
    "as ever": ({}, {"max_tokens": 300, "temperature": 0.0}),
    "newer": (
        {"max_tokens_field": "max_completion_tokens", "temperature": "none", "max_tokens": 7},
        {"max_completion_tokens": 7},
    ),
    "neither": ({"max_tokens_field": "none", "temperature": "none"}, {}),
    "more": (
        {"max_tokens_field": "none", "temperature": "none", "extra_body": {"reasoning_effort": "low", "a": {"b": [1]}}},
        {"reasoning_effort": "low", "a": {"b": [1]}},
    ),
}


@pytest.mark.parametrize(("settings", "sent"), FIELDS.values(), ids=FIELDS.keys())
async def test_a_request_has_the_fields_that_are_set(
    endpoint: FakeEndpoint, settings: dict[str, Any], sent: dict[str, Any]
) -> None:
    endpoint.reply(200, completion("Fine [1]."))
    await ask(endpoint, **settings)
    [request] = endpoint.requests
    assert {name: value for name, value in request["body"].items() if name not in {"model", "messages"}} == sent


async def test_the_prompt_and_the_headers_are_settings(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, completion("Fine [1]."))
    await ask(endpoint, system_prompt="Be kind.", user_prompt="{passages} {question}", headers={"X-Team": "search"})
    [request] = endpoint.requests
    system, user = request["body"]["messages"]
    assert system["content"] == "Be kind."
    assert user["content"] == "<passages>\n[1] passage 1\n[2] passage 2\n</passages> Why?"
    assert request["headers"]["x-team"] == "search"


@pytest.mark.parametrize(
    "later", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "9" * 5_000, "1e999", "nan", "-inf", "Mon, 01 Jan 0001 00:00:00"]
)
async def test_a_retry_after_of_no_time_leaves_the_pause_to_us(endpoint: FakeEndpoint, later: str) -> None:
    endpoint.reply(503, "later", Retry_After=later).reply(200, completion("Fine [1]."))
    assert (await ask(endpoint)).text == "Fine [1]."


async def test_no_llm_is_paid_for_a_query_that_expires_while_it_waits_for_a_slot(endpoint: FakeEndpoint) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, completion("Fine [1]."))
    settings = AnswerSettings(timeout_s=HANG_S, concurrency=1)
    llm = LlmAnswerer(settings, model="tiny", base_url=endpoint.base_url)
    first = asyncio.create_task(llm.answer(QUERY, CONTEXTS))
    async with asyncio.timeout(HANG_S):
        while not endpoint.requests:
            await asyncio.sleep(0.01)
    late = [replace(QUERY, id=str(number), deadline_s=time.time() + 0.2) for number in range(5)]
    outcomes = await asyncio.gather(*[llm.answer(query, CONTEXTS) for query in late], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ExpiredError] * 5
    assert not first.done(), "they are told at their deadline, not when a slot is free"
    endpoint.hold.set()
    assert (await first).text == "Fine [1]."
    assert len(endpoint.requests) == 1
    await llm.close()


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_retry_after_beyond_the_deadline_is_not_waited_for(endpoint: FakeEndpoint, form: str) -> None:
    later = "3600" if form == "seconds" else formatdate(time.time() + 3600, usegmt=True)
    endpoint.reply(429, "later", Retry_After=later)
    with pytest.raises(TransientError, match="429") as raised:
        await ask(endpoint, timeout_s=60)
    assert raised.value.retry_after_s == pytest.approx(3600, abs=60)
    assert len(endpoint.requests) == 1


async def test_a_retry_after_that_is_over_is_no_pause(endpoint: FakeEndpoint) -> None:
    endpoint.reply(503, "now", Retry_After=formatdate(0, usegmt=True)).reply(200, completion("Fine [1]."))
    assert (await ask(endpoint)).text == "Fine [1]."


async def test_a_retry_after_that_is_neither_leaves_the_pause_to_us(endpoint: FakeEndpoint) -> None:
    endpoint.reply(503, "soon", Retry_After="soon").reply(200, completion("Fine [1]."))
    assert (await ask(endpoint)).text == "Fine [1]."


async def test_a_hanging_endpoint_ends_at_the_deadline(endpoint: FakeEndpoint) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, completion("too late"))
    with pytest.raises(TransientError, match="gave no answer"):
        await ask(endpoint, timeout_s=0.3)
    endpoint.hold.set()


async def test_an_endpoint_that_is_not_there_is_transient() -> None:
    with pytest.raises(TransientError, match="can't be reached"):
        await ask(FakeEndpoint(base_url="http://127.0.0.1:9/v1"), attempts=1)
