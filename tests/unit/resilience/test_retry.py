"""An outage of a dependency is waited out, within patience and deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from tests.patience import HANG_S
from worker.domain import Query
from worker.errors import ExpiredError, PoisonError, RefusedError, TransientError
from worker.resilience import retry
from worker.resilience.retry import OutageRetry

QUERY = Query("q", "why?", "docs", top_k=20, top_n=3)


@dataclass
class Dependency:
    """Fails as told, one error per call, then answers."""

    errors: list[Exception] = field(default_factory=list)
    calls: int = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "an answer"


def outlasting(*, patience_s: float = 60.0, unix_time_s: Callable[[], float] = time.time) -> OutageRetry:
    return OutageRetry("LLM", patience_s=patience_s, unix_time_s=unix_time_s)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "OUTAGE_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retry, "OUTAGE_LONGEST_PAUSE_S", 0.002)


async def test_an_outage_is_waited_out_and_told_once() -> None:
    inner = Dependency([TransientError("away")] * 5)

    def asks() -> Awaitable[str]:
        # As the callers do: no coroutine function, but what returns a coroutine.
        return inner()

    with capture_logs() as logs:
        assert await outlasting(patience_s=60).call(QUERY, asks) == "an answer"
    assert inner.calls == 6
    assert [(log["event"], log["dependency"]) for log in logs] == [
        ("waiting for a dependency", "LLM"),
        ("a dependency is back", "LLM"),
    ]


async def test_patience_has_an_end() -> None:
    inner = Dependency([TransientError("away")] * 100_000)
    with pytest.raises(TransientError, match="away"):
        await outlasting(patience_s=0.05).call(QUERY, inner)


async def test_without_patience_the_first_failure_counts() -> None:
    inner = Dependency([TransientError("away")])
    with pytest.raises(TransientError):
        await outlasting(patience_s=0).call(QUERY, inner)
    assert inner.calls == 1


async def test_what_is_too_late_is_not_tried_again() -> None:
    inner = Dependency([ExpiredError("too late")])
    with pytest.raises(ExpiredError):
        await outlasting(patience_s=60).call(QUERY, inner)
    assert inner.calls == 1


async def test_nothing_is_tried_for_a_query_whose_deadline_has_passed() -> None:
    inner = Dependency([TransientError("away")] * 100_000)
    late = Query("q", "why?", "docs", top_k=20, top_n=3, deadline_s=1_000.0)
    times = iter([999.0, 999.0, 1_000.0])  # read before each pause
    with pytest.raises(TransientError):
        await outlasting(unix_time_s=lambda: next(times)).call(late, inner)
    assert inner.calls == 3


async def test_poison_is_not_waited_for() -> None:
    inner = Dependency([PoisonError("invalid_filter", "no such operator")])
    with pytest.raises(PoisonError):
        await outlasting(patience_s=60).call(QUERY, inner)
    assert inner.calls == 1


async def test_a_refusal_is_not_waited_for() -> None:
    inner = Dependency([RefusedError("no such model")])
    with pytest.raises(RefusedError):
        await outlasting(patience_s=60).call(QUERY, inner)
    assert inner.calls == 1


async def test_a_query_that_waits_can_be_cancelled() -> None:
    inner = Dependency([TransientError("away")] * 100_000)
    waiting = asyncio.create_task(outlasting(patience_s=600).call(QUERY, inner))
    while inner.calls < 3:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_pause_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "OUTAGE_FIRST_PAUSE_S", 1e6)
    monkeypatch.setattr(retry, "OUTAGE_LONGEST_PAUSE_S", 1e6)
    inner = Dependency([TransientError("away")] * 100_000)
    soon = Query("q", "why?", "docs", top_k=20, top_n=3, deadline_s=time.time() + 0.1)
    async with asyncio.timeout(HANG_S):
        with pytest.raises(TransientError, match="away"):
            await outlasting(patience_s=600).call(soon, inner)
