"""The real OpenAI client against a server that misbehaves as real ones do."""

import threading
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.fakes.endpoint import FakeEndpoint
from tests.unit.answer.conftest import CONTEXTS, QUERY, completion
from worker.answer.llm import LlmAnswerer
from worker.errors import RefusedError, TransientError
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


@pytest.mark.parametrize("body", ["<html>", completion(None), completion("  "), {**completion("x"), "choices": []}])
async def test_garbage_is_no_answer(endpoint: FakeEndpoint, body: object) -> None:
    endpoint.reply(200, body)
    with pytest.raises(TransientError):
        await ask(endpoint, attempts=1)


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
