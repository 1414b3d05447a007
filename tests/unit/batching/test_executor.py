"""What a thread of one's own promises, above all that a hung call does not outlive its owner."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from tests.patience import HANG_S
from worker.batching.executor import SingleThreadExecutor


async def test_calls_run_in_order_on_one_thread_that_is_not_the_loops() -> None:
    thread = SingleThreadExecutor("mine")
    ran: list[int] = []
    names = await asyncio.gather(
        *(thread.run(lambda n=n: (ran.append(n), threading.current_thread().name)[1]) for n in range(5))
    )
    assert ran == [0, 1, 2, 3, 4]
    assert set(names) == {"mine"}
    thread.close()
    assert thread.join(HANG_S)


async def test_an_error_belongs_to_its_caller_and_the_thread_goes_on() -> None:
    thread = SingleThreadExecutor("mine")
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: 2) == 2
    thread.close()


def test_a_call_cancelled_before_its_turn_is_skipped() -> None:
    thread, begun, release, ran = SingleThreadExecutor("mine"), threading.Event(), threading.Event(), []
    blocking = thread.submit(lambda: (begun.set(), release.wait(HANG_S)))
    assert begun.wait(HANG_S)
    skipped = thread.submit(lambda: ran.append("skipped"))
    assert skipped.cancel()
    release.set()
    blocking.result(HANG_S)
    thread.close()
    assert thread.join(HANG_S)
    assert ran == []


def test_it_says_since_when_its_call_runs_and_that_none_does() -> None:
    thread, begun, release = SingleThreadExecutor("mine"), threading.Event(), threading.Event()
    assert thread.busy_since_s is None
    before_s = time.monotonic()
    running = thread.submit(lambda: (begun.set(), release.wait(HANG_S)))
    assert begun.wait(HANG_S)
    assert thread.busy_since_s is not None
    assert before_s <= thread.busy_since_s <= time.monotonic()
    release.set()
    running.result(HANG_S)
    thread.close()
    assert thread.join(HANG_S)
    assert thread.busy_since_s is None


def test_a_call_that_fails_leaves_it_idle() -> None:
    thread = SingleThreadExecutor("mine")
    with pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 // 0).result(HANG_S)
    thread.close()
    assert thread.join(HANG_S)
    assert thread.busy_since_s is None


def test_closing_ends_the_calls_it_has_and_takes_no_more() -> None:
    thread = SingleThreadExecutor("mine")
    last = thread.submit(lambda: "done")
    thread.close()
    thread.close()
    assert last.result(HANG_S) == "done"
    with pytest.raises(RuntimeError, match="closed"):
        thread.submit(lambda: None)


def test_a_process_ends_although_a_call_hangs() -> None:
    script = (
        "import threading; from worker.batching.executor import SingleThreadExecutor\n"
        "thread = SingleThreadExecutor('hung'); thread.submit(threading.Event().wait); thread.close()\n"
        "print('joined', thread.join(0.05))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert ended.stdout.strip() == "joined False"


def test_of_a_call_that_works_in_steps_it_says_when_the_last_began() -> None:
    thread, step, stepped, release = SingleThreadExecutor("mine"), *(threading.Event() for _ in range(3))

    def work() -> None:
        step.wait(HANG_S)
        thread.still_at_work()
        stepped.set()
        release.wait(HANG_S)

    running = thread.submit(work)
    told_s = time.monotonic()
    step.set()
    assert stepped.wait(HANG_S)
    assert thread.busy_since_s is not None
    assert thread.busy_since_s >= told_s
    release.set()
    running.result(HANG_S)
    thread.close()
    assert thread.join(HANG_S)
