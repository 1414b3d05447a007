"""Who is searched for beside whom. The fakes block until they are told; the real store is in ``test_stage``."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from queue import SimpleQueue
from threading import Event

import numpy as np
import pytest

from tests.patience import HANG_S
from worker.batching.batcher import BatchReport, ClosedError
from worker.domain import Candidate, Query
from worker.errors import ExpiredError, TransientError, WorkerError
from worker.recall import searches as searches_module
from worker.recall.chroma_connection import StoreLostError
from worker.recall.embedder import Vectors
from worker.recall.searches import Searches
from worker.settings import RecallSettings

MakeQuery = Callable[..., Query]
VECTOR = np.ones(2, dtype=np.float32)


class FakeStore:
    """What every ``FakeSearch`` asks: each call waits for its turn to be let go, and says what it was asked for."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[FakeCall] = SimpleQueue()
        self.searches: list[FakeSearch] = []

    def new_search(self) -> "FakeSearch":
        self.searches.append(FakeSearch(self))
        return self.searches[-1]

    async def call(self) -> "FakeCall":
        """Wait for the next call that begins."""
        return await asyncio.to_thread(self.begun.get, timeout=HANG_S)

    async def calls(self, count: int) -> "list[FakeCall]":
        return sorted([await self.call() for _ in range(count)], key=lambda call: call.ids)


class FakeCall:
    def __init__(self, ids: list[str], *, within_s: float, after_loss: bool) -> None:
        self.ids = ids
        self.within_s = within_s
        self.after_loss = after_loss
        self.error: WorkerError | None = None
        self._go_on = Event()

    def end(self, error: WorkerError | None = None) -> None:
        self.error = error
        self._go_on.set()

    def wait(self) -> None:
        self._go_on.wait(HANG_S)


class FakeSearch:
    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.closed = Event()

    def find(
        self, queries: Sequence[Query], vectors: Vectors, *, within_s: float, after_loss: bool = False
    ) -> Sequence[Sequence[Candidate] | WorkerError]:
        assert vectors.shape == (len(queries), 2)
        call = FakeCall([query.id for query in queries], within_s=within_s, after_loss=after_loss)
        self._store.begun.put(call)
        call.wait()
        return [call.error or [Candidate(query.id, "text", 1, 0.5)] for query in queries]

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def reports() -> list[BatchReport]:
    return []


MakeSearches = Callable[..., Searches]


@pytest.fixture
async def make(
    store: FakeStore, recall_settings: RecallSettings, reports: list[BatchReport]
) -> AsyncIterator[MakeSearches]:
    made: list[Searches] = []

    def make(**settings: object) -> Searches:
        changed = recall_settings.model_copy(update={"concurrency": 2} | settings)
        made.append(Searches(store.new_search, changed, on_batch=reports.append))
        return made[-1]

    yield make
    while not store.begun.empty():
        store.begun.get().end()
    for searches in made:
        await searches.close(timeout_s=HANG_S)


@pytest.fixture
def ask(make_query: MakeQuery) -> Callable[..., asyncio.Task[Sequence[Candidate]]]:
    def ask(
        searches: Searches, name: str, *, deadline_s: float | None = None, alone: bool = False, **fields: object
    ) -> asyncio.Task[Sequence[Candidate]]:
        query = make_query(name, **fields)
        return asyncio.create_task(searches.find(query, VECTOR, deadline_s=deadline_s, alone=alone))

    return ask


Ask = Callable[..., asyncio.Task[Sequence[Candidate]]]


async def found(*asked: asyncio.Task[Sequence[Candidate]]) -> list[str]:
    return [candidates[0].document_id for candidates in await asyncio.gather(*asked)]


async def settled() -> None:
    """Let every task run on until it waits for something outside the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_together_is_shared_out_evenly_over_the_slots(
    make: MakeSearches, store: FakeStore, ask: Ask, reports: list[BatchReport]
) -> None:
    searches = make(concurrency=2)
    asked = [ask(searches, name) for name in "abcde"]
    one, other = await store.calls(2)
    assert [one.ids, other.ids] == [["a", "b", "c"], ["d", "e"]]
    other.end()
    one.end()
    assert await found(*asked) == list("abcde")
    await settled()
    assert sorted(report.items for report in reports) == [2, 3]


async def test_what_comes_while_all_slots_search_goes_together_when_one_is_free(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=1, max_batch=3)
    first = ask(searches, "first")
    running = await store.call()
    asked = [ask(searches, name) for name in "abcde"]
    await settled()
    running.end()
    sizes = []
    for _ in range(2):
        call = await store.call()
        sizes.append(len(call.ids))
        call.end()
    assert sizes == [3, 2]
    assert await found(first, *asked) == ["first", *"abcde"]


async def test_a_slow_call_holds_up_nobody_who_comes_after_it(make: MakeSearches, store: FakeStore, ask: Ask) -> None:
    searches = make(concurrency=2)
    slow = ask(searches, "slow")
    slow_call = await store.call()
    for name in ("a", "b", "c"):
        asked = ask(searches, name)
        (await store.call()).end()
        assert await found(asked) == [name]
    assert not slow.done()
    slow_call.end()
    assert await found(slow) == ["slow"]


async def test_filters_have_slots_of_their_own(make: MakeSearches, store: FakeStore, ask: Ask) -> None:
    searches = make(concurrency=2)
    filtered = [ask(searches, f"filtered-{number}", where={"a": number}) for number in range(3)]
    slow = await store.calls(2)
    plain = [ask(searches, "plain-1"), ask(searches, "plain-2")]
    for call in await store.calls(2):
        assert call.ids[0].startswith("plain")
        call.end()
    assert await found(*plain) == ["plain-1", "plain-2"]
    assert not any(one.done() for one in filtered)
    for call in slow:
        call.end()
    (await store.call()).end()
    assert await found(*filtered) == ["filtered-0", "filtered-1", "filtered-2"]


async def test_every_thread_is_known_and_tells_since_when_it_is_busy(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=2)
    assert [slot.name for slot in searches.slots] == ["recall-1", "recall-2", "recall-filtered-1", "recall-filtered-2"]
    assert all(slot.busy_since_s is None for slot in searches.slots)
    asked = ask(searches, "x", where={"a": 1})
    call = await store.call()
    assert [slot.name for slot in searches.slots if slot.busy_since_s is not None] == ["recall-filtered-1"]
    call.end()
    await asked


async def test_a_deadline_ends_the_wait_for_a_slot_and_makes_no_call(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=1)
    now_s = asyncio.get_running_loop().time()
    running = ask(searches, "running")
    call = await store.call()
    with pytest.raises(ExpiredError):
        await ask(searches, "late", deadline_s=now_s + 0.05)
    after = ask(searches, "after")
    call.end()
    following = await store.call()
    assert following.ids == ["after"]
    following.end()
    assert await found(running, after) == ["running", "after"]


async def test_a_call_has_as_long_as_the_last_of_its_queries_waits_and_the_stores_time_at_most(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=1, timeout_s=50.0)
    now_s = asyncio.get_running_loop().time()
    urgent = [ask(searches, name, deadline_s=now_s + seconds) for name, seconds in (("a", 20.0), ("b", 30.0))]
    call = await store.call()
    assert 20.0 < call.within_s <= 30.0
    call.end()
    patient = [ask(searches, "c", deadline_s=now_s + 20.0), ask(searches, "d")]
    await found(*urgent)
    call = await store.call()
    assert call.within_s == 50.0
    call.end()
    await found(*patient)


async def test_a_deadline_ends_the_wait_for_a_call_under_way(make: MakeSearches, store: FakeStore, ask: Ask) -> None:
    searches = make(concurrency=1)
    asked = ask(searches, "x", deadline_s=asyncio.get_running_loop().time() + 0.05)
    call = await store.call()
    with pytest.raises(ExpiredError):
        await asked
    call.end()


async def test_a_call_that_does_not_end_is_left_behind_and_its_slot_goes_on(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=1, timeout_s=HANG_S, mode="server")
    left = ask(searches, "left", deadline_s=asyncio.get_running_loop().time() + 0.05)
    hanging = await store.call()
    following = ask(searches, "following")
    call = await store.call()
    assert call.ids == ["following"]
    with pytest.raises(ExpiredError):
        await left
    assert not store.searches[0].closed.is_set(), "its connection is in use"
    hanging.end()
    assert await asyncio.to_thread(store.searches[0].closed.wait, HANG_S)
    call.end()
    assert await found(following) == ["following"]


async def test_a_call_that_takes_longer_than_the_stores_time_is_transient(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=1, timeout_s=0.05, mode="server")
    with pytest.raises(TransientError, match="did not answer in time"):
        await ask(searches, "x")
    (await store.call()).end()


async def test_an_embedded_store_is_never_left_behind(
    make: MakeSearches, store: FakeStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches_module, "LEAVE_SLACK_S", 0.0)
    searches = make(concurrency=1, timeout_s=0.001, mode="embedded")
    asked = ask(searches, "x")
    call = await store.call()
    await asyncio.wait([asked], timeout=0.1)  # A hundred times its time: nothing may come.
    assert not asked.done()
    call.end()
    assert await found(asked) == ["x"]
    assert len(store.searches) == len(searches.slots), "none replaced"


async def test_who_the_store_may_have_died_of_is_searched_for_alone(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=2)
    before = ask(searches, "before", where={"a": 1})
    running = await store.call()
    suspects = [ask(searches, name, alone=True) for name in ("suspect-1", "suspect-2")]
    behind = ask(searches, "behind")
    await settled()
    assert store.begun.empty(), "something is under way, and nothing else may begin before the suspect"
    running.end()
    for name in ("suspect-1", "suspect-2"):
        call = await store.call()
        assert call.ids == [name]
        await settled()
        assert store.begun.empty()
        call.end()
    (await store.call()).end()
    assert await found(before, *suspects, behind) == ["before", "suspect-1", "suspect-2", "behind"]


async def test_a_suspect_that_leaves_lets_the_others_go_on(make: MakeSearches, store: FakeStore, ask: Ask) -> None:
    searches = make(concurrency=2)
    running = ask(searches, "running")
    call = await store.call()
    suspect, behind = ask(searches, "suspect", alone=True), ask(searches, "behind")
    await settled()
    suspect.cancel()
    other = await store.call()
    assert other.ids == ["behind"]
    other.end()
    call.end()
    assert await found(running, behind) == ["running", "behind"]


async def test_a_store_that_broke_off_is_asked_for_a_sign_of_life_until_it_has_answered(
    make: MakeSearches, store: FakeStore, ask: Ask
) -> None:
    searches = make(concurrency=2)
    outcomes = [StoreLostError("gone"), TransientError("away"), StoreLostError("gone again"), None, None]
    signs = []
    for error in outcomes:
        asked = ask(searches, "x")
        call = await store.call()
        signs.append(call.after_loss)
        call.end(error)
        await asyncio.gather(asked, return_exceptions=True)
        await settled()
    assert signs == [False, True, True, True, False]


async def test_native_code_that_panics_is_transient_and_the_slot_goes_on(
    make: MakeSearches, store: FakeStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakePanic(BaseException):
        """As pyo3's."""

    def panic(*_: object, **__: object) -> None:
        raise FakePanic

    searches = make(concurrency=1)
    with monkeypatch.context() as broken:
        broken.setattr(FakeSearch, "find", panic)
        with pytest.raises(TransientError, match="panicked"):
            await ask(searches, "x")
    asked = ask(searches, "y")
    (await store.call()).end()
    assert await found(asked) == ["y"]


async def test_closing_fails_what_waits_and_what_is_under_way(make: MakeSearches, store: FakeStore, ask: Ask) -> None:
    searches = make(concurrency=1)
    running = ask(searches, "running")
    call = await store.call()
    waiting = ask(searches, "waiting")
    await settled()
    closing = asyncio.create_task(searches.close(timeout_s=HANG_S))
    for asked in (running, waiting):
        with pytest.raises(ClosedError):
            await asked
    call.end()
    await closing
    assert all(search.closed.is_set() for search in store.searches)
    with pytest.raises(ClosedError):
        await ask(searches, "late")
