"""What the micro-batcher promises its jobs, with a runner that the test holds by the hand."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.patience import HANG_S
from worker.batching.batcher import BATCHES_BEFORE_MORE, BatchReport, ClosedError, MicroBatcher
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Limits
from worker.errors import ExpiredError, TransientError


@dataclass
class FakeRunner:
    """Doubles its items; waits for ``release`` if held."""

    batches: list[list[int]] = field(default_factory=list)
    held: bool = False
    release: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    poison: frozenset[int] = frozenset()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        if self.held and not self.release.acquire(timeout=HANG_S):
            raise AssertionError("the test never released the runner")
        if self.poison & set(items):
            raise ValueError("poison")
        return [2 * item for item in items]


@asynccontextmanager
async def a_batcher(
    runner: Callable[[Sequence[int]], Sequence[int | Exception]],
    *,
    after_batch: Callable[[], None] = lambda: None,
    **changes: float,
) -> AsyncIterator[tuple[MicroBatcher[int, int], list[BatchReport]]]:
    reports: list[BatchReport] = []

    def on_batch(report: BatchReport) -> None:
        reports.append(report)
        after_batch()

    limits = {"max_items": 4, "max_cost": 1_000, "max_wait_s": 0.005, "padded": True, **changes}
    batcher: MicroBatcher[int, int] = MicroBatcher(
        runner,
        name="test",
        limits=Limits(
            int(limits["max_items"]), int(limits["max_cost"]), limits["max_wait_s"], padded=bool(limits["padded"])
        ),
        cost=lambda item: item,
        on_batch=on_batch,
        out_of_memory=lambda error: isinstance(error, MemoryError),
    )
    try:
        yield batcher, reports
    finally:
        await batcher.close(timeout_s=5)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.001)


@dataclass
class Clock:
    """The loop's own clock, moved on by hand."""

    moved_s: float = 0.0

    async def advance(self, seconds: float) -> None:
        await turns()  # what has been asked for before the move happens before it
        self.moved_s += seconds
        await turns()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, loop = Clock(), asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + clock.moved_s)
    return clock


async def turns() -> None:
    """Let the loop do all that is ready."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_items_of_concurrent_jobs_share_a_batch() -> None:
    runner = FakeRunner()
    async with a_batcher(runner) as (batcher, _):
        assert await asyncio.gather(batcher.submit([1, 2]), batcher.submit([3])) == [[2, 4], [6]]
    assert [sorted(batch) for batch in runner.batches] == [[1, 2, 3]]


async def test_a_job_larger_than_a_batch_is_split_and_put_together_in_order() -> None:
    runner = FakeRunner()
    async with a_batcher(runner) as (batcher, _):
        assert await batcher.submit([9, 1, 8, 2, 7, 3]) == [18, 2, 16, 4, 14, 6]
    assert max(map(len, runner.batches)) <= 4


async def test_an_empty_job_needs_no_batch() -> None:
    runner = FakeRunner()
    async with a_batcher(runner) as (batcher, _):
        assert await batcher.submit([]) == []
    assert runner.batches == []


async def test_a_full_batch_leaves_without_lingering() -> None:
    runner = FakeRunner()
    async with a_batcher(runner, max_wait_s=10 * HANG_S) as (batcher, _), asyncio.timeout(HANG_S):
        assert await batcher.submit([1, 2, 3, 4]) == [2, 4, 6, 8]


async def test_lingering_counts_from_the_first_waiting_item_not_from_the_last_batch(clock: Clock) -> None:
    runner = FakeRunner()
    async with a_batcher(runner, max_wait_s=100) as (batcher, _):
        for item in (1, 10):
            await clock.advance(1_000)
            first = asyncio.create_task(batcher.submit([item]))
            await clock.advance(95)
            second = asyncio.create_task(batcher.submit([item + 1]))
            await turns()
            assert not first.done()
            await clock.advance(5)
            await asyncio.gather(first, second)
    assert [sorted(batch) for batch in runner.batches] == [[1, 2], [10, 11]]


async def test_items_that_waited_for_a_busy_function_leave_as_soon_as_it_is_free(clock: Clock) -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner, max_wait_s=100) as (batcher, _):
        running = asyncio.create_task(batcher.submit([1]))
        await clock.advance(100)
        await until(lambda: len(runner.batches) == 1)
        waiting = asyncio.create_task(batcher.submit([2]))
        await clock.advance(100)
        runner.release.release(2)
        assert await asyncio.gather(running, waiting) == [[2], [4]]


async def test_what_a_full_batch_left_behind_does_not_linger_anew(clock: Clock) -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner, max_items=2, max_wait_s=100) as (batcher, _):
        job = asyncio.create_task(batcher.submit([1, 2, 3]))
        await until(lambda: len(runner.batches) == 1)
        await clock.advance(100)
        runner.release.release(2)
        assert await job == [2, 4, 6]


async def test_a_batch_whose_cost_is_full_leaves_without_lingering() -> None:
    async with a_batcher(FakeRunner(), max_cost=10, max_wait_s=10 * HANG_S) as (batcher, _), asyncio.timeout(HANG_S):
        assert await asyncio.gather(batcher.submit([5]), batcher.submit([5])) == [[10], [10]]


async def test_nobody_lingers_until_it_is_too_late(clock: Clock) -> None:
    async with a_batcher(FakeRunner(), max_wait_s=10 * HANG_S) as (batcher, _), asyncio.timeout(HANG_S):
        now_s = asyncio.get_running_loop().time()
        assert await batcher.submit([1], deadline_s=now_s + 60) == [2]


async def test_a_job_past_its_deadline_leaves_the_queue_and_costs_nothing(clock: Clock) -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner) as (batcher, _):
        running = asyncio.create_task(batcher.submit([1]))
        await until(lambda: len(runner.batches) == 1)
        now_s = asyncio.get_running_loop().time()
        late = asyncio.create_task(batcher.submit([7, 7], deadline_s=now_s + 60))
        patient = asyncio.create_task(batcher.submit([8], deadline_s=now_s + 600))
        await clock.advance(61)
        with pytest.raises(ExpiredError):  # it learns so at once, not when the running batch ends
            await asyncio.wait_for(late, 5)
        runner.release.release(10)
        assert await asyncio.gather(running, patient) == [[2], [16]]
    assert all(7 not in batch for batch in runner.batches)


async def test_a_deadline_that_passes_while_the_function_runs_frees_the_caller_and_what_is_left(clock: Clock) -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner, max_items=2) as (batcher, _):
        late = asyncio.create_task(batcher.submit([1, 2, 3, 4], deadline_s=asyncio.get_running_loop().time() + 60))
        await until(lambda: len(runner.batches) == 1)
        await clock.advance(61)
        with pytest.raises(ExpiredError):
            await asyncio.wait_for(late, 5)
        runner.release.release(10)
        assert await batcher.submit([9]) == [18]
    assert [sorted(batch) for batch in runner.batches] == [[1, 2], [9]]


async def test_a_deadline_that_passes_between_two_turns_of_the_loop_counts_too(clock: Clock) -> None:
    def the_loop_is_slow() -> None:
        clock.moved_s += 61

    runner = FakeRunner(held=True)
    async with a_batcher(runner, after_batch=the_loop_is_slow) as (batcher, _):
        running = asyncio.create_task(batcher.submit([1]))
        await until(lambda: len(runner.batches) == 1)
        late = asyncio.create_task(batcher.submit([7], deadline_s=asyncio.get_running_loop().time() + 60))
        await turns()
        runner.release.release(10)
        assert await running == [2]
        with pytest.raises(ExpiredError):
            await late
    assert runner.batches == [[1]]


async def test_a_deadline_that_has_passed_before_is_refused() -> None:
    runner = FakeRunner()
    async with a_batcher(runner) as (batcher, _):
        with pytest.raises(ExpiredError):
            await batcher.submit([1], deadline_s=asyncio.get_running_loop().time())
    assert runner.batches == []


@dataclass
class FakeMemory:
    """Runs out of memory above a padded cost."""

    fits: int
    padded: list[int] = field(default_factory=list)
    error: type[Exception] | Exception = MemoryError
    short_for: int = 1_000_000
    """Calls after which there is plenty."""

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.padded.append(len(items) * max(items))
        if self.padded[-1] > self.fits and len(self.padded) <= self.short_for:
            raise self.error
        return [2 * item for item in items]


async def test_what_fitted_after_the_memory_was_too_short_bounds_later_batches() -> None:
    memory = FakeMemory(fits=50)
    async with a_batcher(memory, max_items=16) as (batcher, _):
        with capture_logs() as logs:
            assert await batcher.submit([10] * 16) == [20] * 16
        tries = len(memory.padded)
        assert await batcher.submit([10] * 16) == [20] * 16
        assert memory.padded[tries:] == [40] * 4
    [lowered] = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (lowered["did_not_fit"], lowered["max_cost"]) == (80, 40)


async def test_a_lowered_budget_doubles_after_many_batches_that_fit_until_it_is_what_it_was() -> None:
    memory = FakeMemory(fits=50)
    async with a_batcher(memory, max_items=16, max_cost=160) as (batcher, reports):
        await batcher.submit([10] * 16)
        assert reports[-1].budget == 40
        memory.fits = 1_000
        for number in range(2 * BATCHES_BEFORE_MORE):
            await batcher.submit([10])
            assert reports[-1].budget == (40 if number < BATCHES_BEFORE_MORE - 1 else reports[-1].budget)
        assert [report.budget for report in reports[::BATCHES_BEFORE_MORE]] == [40, 80, 160]
        tries = len(memory.padded)
        await batcher.submit([10] * 16)
        assert memory.padded[tries:] == [160]


async def test_memory_that_is_short_again_lowers_the_budget_again() -> None:
    memory = FakeMemory(fits=50)
    async with a_batcher(memory, max_items=16, max_cost=160) as (batcher, reports):
        await batcher.submit([10] * 16)
        for _ in range(BATCHES_BEFORE_MORE):
            await batcher.submit([10])
        assert reports[-1].budget == 80
        assert await batcher.submit([10] * 16) == [20] * 16
        assert reports[-1].budget == 40


async def test_an_outage_is_asked_once_and_ends_every_item() -> None:
    runner = FakeMemory(fits=0, error=TransientError("away"))
    async with a_batcher(runner, max_items=16) as (batcher, _):
        with pytest.raises(TransientError):
            await batcher.submit([10] * 16)
    assert runner.padded == [160]


class FakePanic(BaseException):
    """As pyo3 raises it: no Exception."""


async def test_a_panic_of_native_code_fails_its_item_alone() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 7 in items:
            raise FakePanic("index out of bounds")
        return list(items)

    async with a_batcher(run) as (batcher, _):
        bad, good = await asyncio.gather(batcher.submit([7]), batcher.submit([1, 2]), return_exceptions=True)
        assert isinstance(bad, RuntimeError)
        assert "index out of bounds" in str(bad)
        assert good == [1, 2]


async def test_what_fitted_only_sometimes_does_not_count_as_fitting() -> None:
    memory = FakeMemory(fits=50, short_for=2)
    async with a_batcher(memory, max_items=16) as (batcher, _):
        await batcher.submit([10] * 16)
        assert memory.padded == [160, 80, 40, 40, 80]
        await batcher.submit([10] * 16)
    assert max(memory.padded[5:]) == 40


async def test_an_item_too_large_for_the_memory_by_itself_makes_no_batch_smaller() -> None:
    memory = FakeMemory(fits=500)
    async with a_batcher(memory, max_items=8) as (batcher, _):
        bad, good = await asyncio.gather(batcher.submit([600]), batcher.submit([60, 60, 60]), return_exceptions=True)
        assert isinstance(bad, MemoryError)
        assert good == [120, 120, 120]
        tries = len(memory.padded)
        await batcher.submit([60] * 8)
    assert memory.padded[tries:] == [480]


async def test_other_errors_make_no_batch_smaller() -> None:
    memory = FakeMemory(fits=50, error=ValueError)
    async with a_batcher(memory, max_items=16) as (batcher, _):
        await batcher.submit([10] * 16)
        tries = len(memory.padded)
        await batcher.submit([10] * 16)
    assert memory.padded[tries] == 160


async def test_the_first_in_line_goes_however_its_cost_compares() -> None:
    runner = FakeRunner()
    async with a_batcher(runner) as (batcher, _):
        await batcher.submit([900] + [1] * 20)
    assert runner.batches[0] == [900]


async def test_without_padding_a_batch_takes_items_in_turn_up_to_the_sum_of_their_costs() -> None:
    runner = FakeRunner()
    async with a_batcher(runner, max_cost=20, max_items=10, padded=False) as (batcher, reports):
        await asyncio.gather(batcher.submit([9, 1, 8]), batcher.submit([2, 9]), batcher.submit([30]))
    assert [list(batch) for batch in runner.batches] == [[2, 9, 9], [1, 8], [30]]
    assert all(report.padded_cost == report.cost for report in reports)


async def test_the_padded_cost_of_a_batch_stays_in_budget() -> None:
    async with a_batcher(FakeRunner(), max_cost=20, max_items=10) as (batcher, reports):
        await batcher.submit([10, 9, 9, 2, 2, 2, 2, 2])
    assert all(report.padded_cost <= 20 for report in reports)
    assert sum(report.items for report in reports) == 8


async def test_an_item_above_the_budget_goes_alone() -> None:
    runner = FakeRunner()
    async with a_batcher(runner, max_cost=10) as (batcher, _):
        assert await batcher.submit([50, 3]) == [100, 6]
    assert [50] in runner.batches


async def test_items_of_like_cost_travel_together() -> None:
    runner = FakeRunner()
    async with a_batcher(runner, max_items=3) as (batcher, _):
        await batcher.submit([100, 1, 99, 2, 98, 3])
    assert sorted(map(sorted, runner.batches)) == [[1, 2, 3], [98, 99, 100]]


async def test_small_jobs_overtake_a_large_one_that_came_first() -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner) as (batcher, _):
        large = asyncio.create_task(batcher.submit([1] * 40))
        await until(lambda: len(runner.batches) == 1)
        small = asyncio.create_task(batcher.submit([1, 1]))
        await asyncio.sleep(0)
        runner.release.release(2)
        await until(small.done)
        assert not large.done()
        runner.release.release(100)
        assert await large == [2] * 40


async def test_a_large_job_is_overtaken_by_no_more_work_than_it_brings() -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner) as (batcher, _):
        large = asyncio.create_task(batcher.submit([1] * 12))
        await until(lambda: len(runner.batches) == 1)
        overtaking: list[asyncio.Task[list[int]]] = []
        for _ in range(20):
            overtaking.append(asyncio.create_task(batcher.submit([1] * 4)))
            runner.release.release()
            done = len(runner.batches)
            await until(lambda done=done: len(runner.batches) > done or large.done())  # type: ignore[misc]  # bound now
            if large.done():
                break
        assert large.done()
        runner.release.release(100)
        await asyncio.gather(large, *overtaking)


async def test_a_cancelled_job_costs_nothing_more() -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner) as (batcher, _):
        first = asyncio.create_task(batcher.submit([1]))
        await until(lambda: len(runner.batches) == 1)
        cancelled = asyncio.create_task(batcher.submit([7, 7]))
        await asyncio.sleep(0)
        cancelled.cancel()
        runner.release.release(10)
        assert await first == [2]
        assert await batcher.submit([3]) == [6]
    assert all(7 not in batch for batch in runner.batches)


async def test_one_bad_item_fails_its_own_job_only() -> None:
    async with a_batcher(FakeRunner(poison=frozenset({3}))) as (batcher, _):
        good, bad = await asyncio.gather(batcher.submit([1, 2]), batcher.submit([3]), return_exceptions=True)
    assert good == [2, 4]
    assert isinstance(bad, ValueError)


async def test_an_exception_returned_for_an_item_is_its_jobs_error() -> None:
    def refusing(items: Sequence[int]) -> list[int | Exception]:
        return [KeyError(item) if item == 3 else item for item in items]

    async with a_batcher(refusing) as (batcher, _):
        good, bad = await asyncio.gather(batcher.submit([1]), batcher.submit([2, 3]), return_exceptions=True)
    assert good == [1]
    assert isinstance(bad, KeyError)


async def test_a_runner_that_loses_results_fails_the_jobs() -> None:
    async with a_batcher(lambda _: []) as (batcher, _):
        with pytest.raises(RuntimeError, match="gave 0 results"):
            await batcher.submit([1, 2])


async def test_closing_fails_what_waits_and_refuses_what_comes() -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner) as (batcher, _):
        running = asyncio.create_task(batcher.submit([1]))
        await until(lambda: len(runner.batches) == 1)
        waiting = asyncio.create_task(batcher.submit([2]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close(timeout_s=5))
        runner.release.release(10)
        await closing
        for job in (running, waiting):
            with pytest.raises(ClosedError):
                await job
        with pytest.raises(ClosedError):
            await batcher.submit([3])


async def test_closing_gives_up_on_a_runner_that_hangs() -> None:
    runner = FakeRunner(held=True)
    async with a_batcher(runner) as (batcher, _):
        hanging = asyncio.create_task(batcher.submit([1]))
        await until(lambda: len(runner.batches) == 1)
        async with asyncio.timeout(HANG_S):
            await batcher.close(timeout_s=0.05)
        with pytest.raises(ClosedError):
            await hanging
        runner.release.release()


@given(
    jobs=st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=12),
    max_items=st.integers(1, 6),
    max_cost=st.integers(1, 120),
    padded=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_job_ends_once_with_its_own_results(
    jobs: list[list[int]], max_items: int, max_cost: int, padded: bool
) -> None:
    async def scenario() -> None:
        limits = {"max_items": max_items, "max_cost": max_cost, "max_wait_s": 0.0, "padded": padded}
        async with a_batcher(FakeRunner(), **limits) as (batcher, reports), asyncio.timeout(HANG_S):
            results = await asyncio.gather(*map(batcher.submit, jobs))
        assert results == [[2 * item for item in job] for job in jobs]
        assert sum(report.items for report in reports) == sum(map(len, jobs))
        for report in reports:
            assert report.items == 1 or (report.items <= max_items and report.padded_cost <= max_cost)

    asyncio.run(scenario())


JOBS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([False] * 9 + [True])), max_size=8)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), JOBS),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("release"), st.integers(1, 4)),
        st.tuples(st.just("turns"), st.none()),
        st.tuples(st.just("submit with a deadline"), JOBS),
    ),
    max_size=25,
)


@dataclass(frozen=True, eq=False)
class Item:
    cost: int
    poison: bool


@dataclass
class Play:
    """Jobs submitted and cancelled in a given order, and batches that run when the order says so."""

    jobs: list[tuple[list[Item], "asyncio.Task[list[Item]]"]] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    with_deadline: set[int] = field(default_factory=set)
    scored: list[Item] = field(default_factory=list)
    permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self, items: Sequence[Item]) -> list[Item]:
        assert self.permits.acquire(timeout=HANG_S)
        if any(item.poison for item in items):
            raise ValueError("poison")
        self.scored.extend(items)
        return list(items)

    async def step(self, batcher: MicroBatcher[Item, Item], kind: str, argument: Any) -> None:
        if kind == "submit":
            items = [Item(cost, poison) for cost, poison in argument]
            self.jobs.append((items, asyncio.create_task(batcher.submit(items))))
        elif kind == "submit with a deadline":
            items = [Item(cost, poison) for cost, poison in argument]
            deadline_s = asyncio.get_running_loop().time() + len(items) / 10_000  # some pass on the way
            self.with_deadline.add(len(self.jobs))
            self.jobs.append((items, asyncio.create_task(batcher.submit(items, deadline_s=deadline_s))))
        elif kind == "cancel" and argument < len(self.jobs):
            if self.jobs[argument][1].cancel():
                self.cancelled.add(argument)
        elif kind == "release":
            self.permits.release(argument)
        else:
            await turns()

    async def outcomes(self) -> "list[list[Item] | BaseException]":
        tasks = [task for _, task in self.jobs]
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    def right(self, number: int, outcome: "list[Item] | BaseException", *, closed_early: bool) -> bool:
        items = self.jobs[number][0]
        if number in self.cancelled:
            return isinstance(outcome, asyncio.CancelledError)
        if isinstance(outcome, ClosedError):
            return closed_early
        if isinstance(outcome, ExpiredError):
            return number in self.with_deadline
        if any(item.poison for item in items):
            return isinstance(outcome, ValueError)
        return outcome == items


@given(steps=STEPS, max_items=st.integers(1, 6), max_cost=st.integers(1, 120), close_early=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_job_ends_exactly_once_and_as_it_should(
    steps: list[tuple[str, Any]], max_items: int, max_cost: int, close_early: bool
) -> None:
    async def scenario() -> None:
        play = Play()
        batcher: MicroBatcher[Item, Item] = MicroBatcher(
            play.run,
            name="test",
            limits=Limits(max_items, max_cost, max_wait_s=0, padded=True),
            cost=lambda item: item.cost,
            on_batch=lambda _: None,
        )
        for kind, argument in steps:
            await play.step(batcher, kind, argument)
        play.permits.release(10_000)
        if not close_early:
            await play.outcomes()
        await batcher.close(timeout_s=10)
        for number, outcome in enumerate(await play.outcomes()):
            assert play.right(number, outcome, closed_early=close_early), (play.jobs[number], outcome)
        assert len(play.scored) == len(set(play.scored)), "an item was scored twice"

    asyncio.run(scenario())


async def test_a_thread_that_is_given_runs_the_batches_and_stays_its_owners() -> None:
    names: list[str] = []
    thread = SingleThreadExecutor("the owner's")

    def run(items: Sequence[int]) -> list[int]:
        names.append(threading.current_thread().name)
        return list(items)

    batcher: MicroBatcher[int, int] = MicroBatcher(
        run, name="test", limits=Limits(4, 1_000, 0.0), cost=lambda _: 1, on_batch=lambda _: None, executor=thread
    )
    assert await batcher.submit([1, 2]) == [1, 2]
    await batcher.close(timeout_s=5)
    assert names == ["the owner's"]
    assert await thread.run(lambda: "still open") == "still open"
    await thread.aclose(5)
