"""An outage of the store is waited out, within patience and deadline."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from worker.errors import PoisonError, TransientError
from worker.recall import outlast
from worker.recall.outlast import OutlastingRecall
from worker.types import Candidate, Query

FOUND = [Candidate("d", "text", 1, distance=0.1)]
QUERY = Query("q", "why?", "docs", top_k=20, top_n=3)


@dataclass
class FakeRecall:
    """Fails as told, one error per call, then finds."""

    errors: list[Exception] = field(default_factory=list)
    calls: int = 0

    async def recall(self, query: Query) -> Sequence[Candidate]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return FOUND


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlast, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(outlast, "LONGEST_RETRY_S", 0.002)


async def test_an_outage_is_waited_out_and_told_once() -> None:
    inner = FakeRecall([TransientError("away")] * 5)
    with capture_logs() as logs:
        assert await OutlastingRecall(inner, patience_s=60).recall(QUERY) == FOUND
    assert inner.calls == 6
    assert [log["event"] for log in logs] == ["waiting for the vector store", "the vector store is back"]


async def test_patience_has_an_end() -> None:
    inner = FakeRecall([TransientError("away")] * 100_000)
    with pytest.raises(TransientError, match="away"):
        await OutlastingRecall(inner, patience_s=0.05).recall(QUERY)


async def test_without_patience_the_first_failure_counts() -> None:
    inner = FakeRecall([TransientError("away")])
    with pytest.raises(TransientError):
        await OutlastingRecall(inner, patience_s=0).recall(QUERY)
    assert inner.calls == 1


async def test_nothing_is_tried_for_a_query_whose_deadline_has_passed() -> None:
    inner = FakeRecall([TransientError("away")] * 100_000)
    late = Query("q", "why?", "docs", top_k=20, top_n=3, deadline_s=1_000.0)
    times = iter([*[999.0] * 5, 1_000.0])  # read before each pause and each decision to go on
    with pytest.raises(TransientError):
        await OutlastingRecall(inner, patience_s=60, unix_time_s=lambda: next(times)).recall(late)
    assert inner.calls == 3


async def test_poison_is_not_waited_for() -> None:
    inner = FakeRecall([PoisonError("invalid_filter", "no such operator")])
    with pytest.raises(PoisonError):
        await OutlastingRecall(inner, patience_s=60).recall(QUERY)
    assert inner.calls == 1


async def test_a_query_that_waits_can_be_cancelled() -> None:
    inner = FakeRecall([TransientError("away")] * 100_000)
    waiting = asyncio.create_task(OutlastingRecall(inner, patience_s=600).recall(QUERY))
    while inner.calls < 3:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_pause_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlast, "FIRST_RETRY_S", 1e6)
    monkeypatch.setattr(outlast, "LONGEST_RETRY_S", 1e6)
    inner = FakeRecall([TransientError("away")] * 100_000)
    soon = Query("q", "why?", "docs", top_k=20, top_n=3, deadline_s=time.time() + 0.1)
    async with asyncio.timeout(30):
        with pytest.raises(TransientError, match="away"):
            await OutlastingRecall(inner, patience_s=600).recall(soon)
