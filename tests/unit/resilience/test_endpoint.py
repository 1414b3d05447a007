"""While the LLM fails it is left alone: the real client against a real server, and what it was asked.

What is a matter of minutes runs on a loop whose clock jumps to the next timer: to the second, and at once.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.patience import HANG_S
from tests.unit.answer.conftest import CONTEXTS, QUERY, completion
from worker.answer.llm import LlmAnswerer
from worker.errors import ExpiredError, RefusedError, TransientError
from worker.resilience import endpoint as module
from worker.resilience import retry
from worker.resilience.endpoint import Circuit, CircuitOpenError, Endpoint, failure
from worker.settings import AnswerSettings

FAILURES = 5
CONCURRENCY = 4
RETRY_S = 15.0


@asynccontextmanager
async def answering(
    endpoint: FakeEndpoint, told: list[bool], failures: list[str] | None = None, **changes: object
) -> AsyncIterator[LlmAnswerer]:
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
    note = [].append if failures is None else failures.append
    llm = LlmAnswerer(settings, model="tiny", base_url=endpoint.base_url, on_circuit=told.append, on_failure=note)
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
    failures: list[str] = []
    async with answering(endpoint, told, failures, circuit_failures=1) as llm:
        outcomes = await ask_many(llm, 5)
    assert [type(outcome) for outcome in outcomes] == [RefusedError] * 5
    assert told == []
    assert failures == ["llm_refused"] * 5


async def test_each_try_that_fails_is_told_with_its_code(endpoint: FakeEndpoint) -> None:
    endpoint.reply(503, "down", Retry_After="0").reply(200, "no completion")
    failures: list[str] = []
    async with answering(endpoint, [], failures, attempts=2) as llm:
        await ask_many(llm, 1)
    assert failures == ["llm_unavailable", "llm_invalid_response"]


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


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop that waits for no timer: when nothing is ready, its clock jumps to the next one. For tests without I/O."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        select = self._selector.select  # type: ignore[attr-defined]  # asyncio's own

        def jump(timeout: float | None) -> list[Any]:
            assert timeout is not None, "nothing will ever happen"
            self.now_s += max(0.0, timeout)
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        monkeypatch.setattr(module, "monotonic", runner.get_loop().time)
        yield runner.run


def now_s() -> float:
    return asyncio.get_running_loop().time()


class FakeLlm:
    """An LLM that takes so long for an answer, and says what was asked of it at once and in all."""

    def __init__(self, answer_s: float, *failures: Exception) -> None:
        self.answer_s = answer_s
        self.failures = list(failures)
        self.asked = self.under_way = self.most_under_way = 0

    async def __call__(self) -> str:
        self.asked += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.answer_s)
            if self.failures:
                raise self.failures.pop(0)
        finally:
            self.under_way -= 1
        return "fine"


def an_endpoint(
    *, failures: int = FAILURES, timeout_s: float = 60.0, attempts: int = 3, concurrency: int = 8
) -> tuple[Endpoint, list[bool]]:
    """An endpoint with the defaults of the settings."""
    told: list[bool] = []
    circuit = Circuit("the LLM", failures=failures, retry_s=15.0, service="llm", on_change=told.append)
    return (
        Endpoint("the LLM", circuit, service="llm", timeout_s=timeout_s, attempts=attempts, concurrency=concurrency),
        told,
    )


async def of_all(endpoint: Endpoint, request: Callable[[], Awaitable[str]], queries: int) -> Counter[str]:
    outcomes = await asyncio.gather(*[endpoint.call(request) for _ in range(queries)], return_exceptions=True)
    return Counter(outcome if isinstance(outcome, str) else type(outcome).__name__ for outcome in outcomes)


@pytest.mark.parametrize("answer_s", [1.0, 3.0, 6.0, 59.0])
def test_a_healthy_llm_that_is_slow_loses_no_answer_and_is_not_left_alone(jumping: Any, answer_s: float) -> None:
    endpoint, told = an_endpoint()
    llm = FakeLlm(answer_s)
    assert jumping(of_all(endpoint, llm, 256)) == {"fine": 256}
    assert told == []
    assert (llm.asked, llm.most_under_way) == (256, 8)


def test_an_llm_that_hangs_is_left_alone_and_the_others_are_told_at_once(jumping: Any) -> None:
    async def hang() -> Any:
        endpoint, told = an_endpoint()
        llm = FakeLlm(10_000.0)
        outcomes = await of_all(endpoint, llm, 256)
        return outcomes, told, llm.asked, now_s()

    outcomes, told, asked, ended_s = jumping(hang())
    assert outcomes == {"TransientError": 8, "CircuitOpenError": 248}
    assert (told, asked) == ([True], 8)
    assert ended_s == pytest.approx(60.0)


def test_a_slot_is_free_while_a_query_pauses(jumping: Any) -> None:
    async def ask() -> list[float]:
        endpoint, _ = an_endpoint(concurrency=1)
        llm = FakeLlm(1.0, TransientError("busy", retry_after_s=30.0))
        ended: list[float] = []

        async def one() -> None:
            await endpoint.call(llm)
            ended.append(now_s())

        await asyncio.gather(*[one() for _ in range(4)])
        return ended

    # The one that was refused pauses from the first second to the 31st; the others need not.
    assert jumping(ask()) == pytest.approx([2.0, 3.0, 4.0, 32.0])


def test_pauses_and_tries_together_have_the_time_of_an_answer(jumping: Any) -> None:
    async def ask() -> tuple[str, float]:
        endpoint, told = an_endpoint(failures=2)
        llm = FakeLlm(1.0, TransientError("busy", retry_after_s=40.0))
        llm.failures += [TransientError("busy", retry_after_s=18.5)]
        with pytest.raises(TransientError) as raised:
            await endpoint.call(llm)
        assert told == [True]
        return str(raised.value), now_s()

    # 1 s, a pause of 40 s and 1 s leave 18 s: not enough for the second pause.
    assert jumping(ask()) == ("busy", pytest.approx(42.0))


def test_a_request_that_had_not_its_whole_time_tells_nothing_of_the_llm(jumping: Any) -> None:
    async def ask() -> tuple[list[bool], float]:
        endpoint, told = an_endpoint(failures=2)
        llm = FakeLlm(1.0, TransientError("busy", retry_after_s=30.0))

        async def request() -> str:
            if llm.asked:
                llm.answer_s = 10_000.0
            return await llm()

        with pytest.raises(TransientError, match="gave no answer within 60 s") as raised:
            await endpoint.call(request)
        assert raised.value.code == "llm_timeout"
        return told, now_s()

    assert jumping(ask()) == ([], pytest.approx(60.0))


@pytest.mark.parametrize(("busy", "asked"), [(False, 1), (True, 0)], ids=["under way", "waiting for a slot"])
def test_a_deadline_ends_a_call_and_tells_nothing_of_the_llm(jumping: Any, busy: bool, asked: int) -> None:
    async def ask() -> tuple[int, list[bool], float]:
        endpoint, told = an_endpoint(failures=1, concurrency=1)
        llm = FakeLlm(30.0)
        first = asyncio.create_task(endpoint.call(FakeLlm(30.0))) if busy else None
        await asyncio.sleep(0)
        with pytest.raises(ExpiredError):
            await endpoint.call(llm, deadline_s=now_s() + 5.0)
        ended_s = now_s()
        if first is not None:
            assert await first == "fine"
        assert await endpoint.call(FakeLlm(1.0)) == "fine"
        return llm.asked, told, ended_s

    assert jumping(ask()) == (asked, [], pytest.approx(5.0))


def test_a_deadline_that_has_passed_asks_nobody(jumping: Any) -> None:
    async def ask() -> int:
        endpoint, _ = an_endpoint()
        llm = FakeLlm(1.0)
        with pytest.raises(ExpiredError):
            await endpoint.call(llm, deadline_s=now_s())
        return llm.asked

    assert jumping(ask()) == 0


def test_a_pause_beyond_the_deadline_is_not_waited_for(jumping: Any) -> None:
    async def ask() -> float:
        endpoint, _ = an_endpoint()
        with pytest.raises(TransientError, match="busy"):
            await endpoint.call(FakeLlm(1.0, TransientError("busy", retry_after_s=30.0)), deadline_s=now_s() + 20.0)
        return now_s()

    assert jumping(ask()) == pytest.approx(1.0)


DATES = st.from_regex(
    r"(Mon, )?[0-9]{1,3} (Jan|Feb|Xyz) [0-9]{1,12} [0-9]{1,3}:[0-9]{1,3}(:[0-9]{1,3})?( [A-Z0-9+-]{1,12})?"
)


@given(st.text(max_size=40) | st.from_regex(r"[+-]?[0-9._e]{1,400}") | DATES)
def test_no_retry_after_raises_and_none_is_endless(later: str) -> None:
    asked_s = failure(503, {"retry-after": later}, "later", service="llm").retry_after_s
    assert asked_s is None or 0 <= asked_s < float("inf")
