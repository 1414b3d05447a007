"""Who waits for whom: changes of one document, neighbours of a bad one, a store that is away, what is cut off."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from tests.patience import HANG_S
from worker.batching.executor import SingleThreadExecutor
from worker.documents.stream import stage
from worker.documents.stream.changes import Change, Outcome
from worker.documents.stream.stage import Indexing
from worker.documents.stream.store import StoreRefusedError
from worker.errors import FatalError, PoisonError, TransientError
from worker.resilience.retry import RetryPolicy
from worker.settings import IndexSettings

MakeChange = Callable[..., Change]


class FakeStore:
    """Notes what it is given; does what it is told first, or waits at a gate."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, int]]] = []
        self.fails: Callable[[Sequence[Change]], Exception | None] = lambda _: None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def apply(self, changes: Sequence[Change]) -> list[Outcome | Exception]:
        for change in changes:
            change.writing = True
        self.entered.set()
        assert self.gate.wait(HANG_S)
        self.batches.append([(change.id, change.mark.offset) for change in changes])
        error = self.fails(changes)
        if error is not None:
            raise error
        return ["written"] * len(changes)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
async def indexing(store: FakeStore, failures: list[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Indexing]:
    monkeypatch.setattr(stage, "RetryPolicy", lambda *_: RetryPolicy(0.001, 0.001))
    executor = SingleThreadExecutor("index")
    running = Indexing(store.apply, IndexSettings(max_batch=8), executor, on_failure=failures.append)
    yield running
    store.gate.set()
    await running.close(timeout_s=HANG_S)
    await executor.aclose(HANG_S)


async def applied(*changes: "asyncio.Task[Outcome]") -> list[Outcome]:
    async with asyncio.timeout(HANG_S):
        return await asyncio.gather(*changes)


async def entered(store: FakeStore) -> None:
    assert await asyncio.to_thread(store.entered.wait, HANG_S)


def begin(indexing: Indexing, change: Change) -> "asyncio.Task[Outcome]":
    return asyncio.create_task(indexing.apply(change))


async def test_documents_that_come_together_are_written_together(
    indexing: Indexing, store: FakeStore, make_change: MakeChange
) -> None:
    tasks = [begin(indexing, make_change(str(number), "Text.", number)) for number in range(5)]
    assert await applied(*tasks) == ["written"] * 5
    assert [len(batch) for batch in store.batches] == [5]


async def test_a_document_is_changed_in_the_order_of_its_events_and_never_twice_at_once(
    indexing: Indexing, store: FakeStore, make_change: MakeChange
) -> None:
    tasks = [begin(indexing, make_change("ab"[number % 2], "Text.", number)) for number in range(20)]
    await applied(*tasks)
    for batch in store.batches:
        assert len({identifier for identifier, _ in batch}) == len(batch)
    for name, first in (("a", 0), ("b", 1)):
        offsets = [offset for batch in store.batches for identifier, offset in batch if identifier == name]
        assert offsets == list(range(first, 20, 2))


async def test_a_store_that_is_away_is_waited_for_and_the_order_stays(
    indexing: Indexing, store: FakeStore, failures: list[str], make_change: MakeChange
) -> None:
    away = iter([TransientError("chroma.internal is away")] * 6)
    store.fails = lambda _: next(away, None)
    tasks = [begin(indexing, make_change("a", "Text.", offset)) for offset in range(3)]
    assert await applied(*tasks) == ["written"] * 3
    offsets = [offset for [(_, offset)] in store.batches]
    assert offsets == sorted(offsets)
    assert failures == ["store_unavailable"] * 6
    assert indexing.why_waiting is None


async def test_it_says_that_it_waits(indexing: Indexing, store: FakeStore, make_change: MakeChange) -> None:
    store.fails = lambda _: TransientError("away")
    task = begin(indexing, make_change("a", "Text.", 0))
    async with asyncio.timeout(HANG_S):
        while indexing.why_waiting is None:
            await asyncio.sleep(0.001)
    assert indexing.why_waiting == "away"
    store.fails = lambda _: None
    await applied(task)
    assert indexing.why_waiting is None


async def test_one_document_the_store_never_takes_is_its_own_fault_alone(
    indexing: Indexing, store: FakeStore, make_change: MakeChange
) -> None:
    store.fails = lambda changes: ValueError("bad") if "bad" in [change.id for change in changes] else None
    names = ["a", "b", "bad", "c"]
    tasks = [begin(indexing, make_change(name, "Text.", offset)) for offset, name in enumerate(names)]
    async with asyncio.timeout(HANG_S):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[index] for index in (0, 1, 3)] == ["written"] * 3
    assert isinstance(results[2], PoisonError)
    assert results[2].reason == "store_refused"


async def test_what_the_store_fails_at_holds_up_nobody_else_and_is_tried_again(
    indexing: Indexing, store: FakeStore, failures: list[str], make_change: MakeChange
) -> None:
    sick = {"sick"}
    store.fails = lambda changes: StoreRefusedError("500") if sick & {change.id for change in changes} else None
    tasks = {name: begin(indexing, make_change(name, "Text.", 0)) for name in ("a", "sick", "b")}
    assert await applied(tasks["a"], tasks["b"]) == ["written"] * 2
    assert not tasks["sick"].done()
    sick.clear()
    assert await applied(tasks["sick"]) == ["written"]
    assert "store_failed" in failures


async def test_a_later_change_of_a_document_goes_on_behind_one_that_was_refused(
    indexing: Indexing, store: FakeStore, make_change: MakeChange
) -> None:
    store.fails = lambda changes: ValueError("bad") if changes[0].mark.offset == 0 else None
    tasks = [begin(indexing, make_change("a", "Text.", offset)) for offset in range(2)]
    async with asyncio.timeout(HANG_S):
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, PoisonError)
    assert second == "written"


async def test_a_fatal_error_is_everybodys(indexing: Indexing, store: FakeStore, make_change: MakeChange) -> None:
    store.fails = lambda _: FatalError("the key is not valid")
    with pytest.raises(FatalError):
        await indexing.apply(make_change("a", "Text.", 0))


async def test_a_change_that_was_cut_off_before_its_batch_is_not_made(
    indexing: Indexing, store: FakeStore, make_change: MakeChange
) -> None:
    store.gate.clear()
    first = begin(indexing, make_change("a", "Text.", 0))
    await entered(store)
    left = make_change("b", "Text.", 1)
    waiting = begin(indexing, left)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert left.abandoned
    store.gate.set()
    await applied(first)
    assert store.batches == [[("a", 0)]]


async def test_a_change_that_was_cut_off_while_written_ends_when_that_has(
    indexing: Indexing, store: FakeStore, make_change: MakeChange
) -> None:
    store.gate.clear()
    change = make_change("a", "Text.", 0)
    task = begin(indexing, change)
    await entered(store)
    task.cancel()
    # Until the store has answered, nobody else may be let to the document.
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    assert change.abandoned
    store.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.batches == [[("a", 0)]]


async def test_a_stage_that_has_ended_is_fatal(indexing: Indexing, make_change: MakeChange) -> None:
    await indexing.close(timeout_s=HANG_S)
    with pytest.raises(FatalError, match="has ended"):
        await indexing.apply(make_change("a", "Text.", 0))
