"""While the LLM fails it is left alone: the real client against a real server, and what it was asked."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.endpoint import FakeEndpoint
from tests.patience import HANG_S
from tests.unit.answer.conftest import CONTEXTS, QUERY, completion
from worker.answer.llm import LlmAnswerer
from worker.errors import RefusedError, TransientError
from worker.resilience import endpoint as module
from worker.resilience import retry
from worker.resilience.endpoint import CircuitOpenError
from worker.settings import AnswerSettings

FAILURES = 5
CONCURRENCY = 4
RETRY_S = 15.0


@asynccontextmanager
async def answering(endpoint: FakeEndpoint, told: list[bool], **changes: object) -> AsyncIterator[LlmAnswerer]:
    settings = AnswerSettings.model_validate(
        {
            "timeout_s": 20,
            "attempts": 2,
            "concurrency": CONCURRENCY,
            "circuit_failures": FAILURES,
            "circuit_retry_s": RETRY_S,
            **changes,
        }
    )
    llm = LlmAnswerer(settings, model="tiny", base_url=endpoint.base_url, on_circuit=told.append)
    try:
        yield llm
    finally:
        await llm.close()


async def ask_many(llm: LlmAnswerer, queries: int) -> list[object]:
    """Ask at once and return answers and errors."""
    return list(await asyncio.gather(*[llm.answer(QUERY, CONTEXTS) for _ in range(queries)], return_exceptions=True))


async def test_an_llm_that_is_down_meets_no_storm(endpoint: FakeEndpoint) -> None:
    endpoint.reply(503, "down", Retry_After="0")
    told: list[bool] = []
    async with answering(endpoint, told, circuit_retry_s=600) as llm:
        outcomes = await ask_many(llm, 200)
        assert all(isinstance(outcome, TransientError) for outcome in outcomes)
        # Those that were under way when the last of the failures came have been asked already.
        assert FAILURES <= len(endpoint.requests) < FAILURES + CONCURRENCY
        with pytest.raises(CircuitOpenError, match="5 requests in a row"):
            await llm.answer(QUERY, CONTEXTS)
    assert told == [True]


async def test_one_request_at_a_time_tries_whether_it_is_back(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now_s)
    endpoint.reply(503, "down", Retry_After="0")
    told: list[bool] = []
    async with answering(endpoint, told, attempts=1) as llm:
        await ask_many(llm, 20)
        before = len(endpoint.requests)
        now_s += RETRY_S
        outcomes = await ask_many(llm, 20)
        assert len(endpoint.requests) == before + 1
        assert sum(isinstance(outcome, CircuitOpenError) for outcome in outcomes) == 19

        endpoint.replies[:] = []
        endpoint.reply(200, completion("Fine [1]."))
        now_s += RETRY_S
        await llm.answer(QUERY, CONTEXTS)
        assert not [outcome for outcome in await ask_many(llm, 20) if isinstance(outcome, Exception)]
    assert told == [True, False]


async def test_silence_counts_as_failure(endpoint: FakeEndpoint) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, completion("too late"))
    told: list[bool] = []
    async with answering(endpoint, told, timeout_s=0.3, circuit_failures=1) as llm:
        with pytest.raises(TransientError, match="gave no answer"):
            await llm.answer(QUERY, CONTEXTS)
    endpoint.hold.set()
    assert told == [True]


async def test_a_query_that_is_cancelled_says_nothing_of_the_llm(endpoint: FakeEndpoint) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, completion("Fine [1]."))
    told: list[bool] = []
    async with answering(endpoint, told, circuit_failures=1) as llm:
        asking = asyncio.create_task(llm.answer(QUERY, CONTEXTS))
        async with asyncio.timeout(HANG_S):
            while not endpoint.requests:
                await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait({asking})
        endpoint.hold.set()
        assert (await llm.answer(QUERY, CONTEXTS)).text == "Fine [1]."
    assert told == []


async def test_a_refusal_is_no_failure_of_the_llm(endpoint: FakeEndpoint) -> None:
    endpoint.reply(404, {"error": {"message": "no such model"}})
    told: list[bool] = []
    async with answering(endpoint, told, circuit_failures=1) as llm:
        outcomes = await ask_many(llm, 5)
    assert [type(outcome) for outcome in outcomes] == [RefusedError] * 5
    assert told == []


async def test_queries_with_patience_wait_until_it_is_back(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "OUTAGE_LONGEST_PAUSE_S", 0.5)
    for _ in range(FAILURES + CONCURRENCY):
        endpoint.reply(503, "down", Retry_After="0")
    endpoint.reply(200, completion("Fine [1]."))
    told: list[bool] = []
    async with answering(endpoint, told, circuit_retry_s=0.1, patience_s=60) as llm:
        answers = await asyncio.gather(*[llm.answer(QUERY, CONTEXTS) for _ in range(30)])
    assert {answer.text for answer in answers} == {"Fine [1]."}
    assert told[0] is True
    assert told[-1] is False
