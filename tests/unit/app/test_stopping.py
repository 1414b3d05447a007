"""What the handlers of the start and the deadline of the end do to a process; each in one of its own."""

import signal
import subprocess
import sys

import pytest

from tests.patience import HANG_S
from worker.app.stopping import EXIT_DRAINED, EXIT_NOT_DRAINED

STARTING = """
import asyncio, signal, threading
from worker.app.stopping import exit_on_signals, keep_turning
exit_on_signals({say})
threading.Thread(target=threading.Event().wait).start()  # the interpreter alone would wait for it for ever
async def wait():
    turning = asyncio.create_task(keep_turning())
    print("waiting", flush=True)
    {then}
    await asyncio.Event().wait()
asyncio.run(wait())
"""

# As one that came in the instant before the loop began to wait: noted, and the loop waits on. The time is none that
# anything depends on; sooner, it would be seen even without waking the loop.
NOTED_ELSEWHERE = "threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()"

CLOSING = """
import threading
from worker.app.stopping import EndDeadline
end = EndDeadline(lambda seconds: print("took", seconds, flush=True))
end.begin(0.05, 3)
end.begin(1_000, 1)
{then}
threading.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("say", ["lambda: print('told', flush=True)", "lambda: exec('raise RuntimeError')"])
def test_a_signal_during_the_start_ends_the_process_with_0_whatever_waits(number: signal.Signals, say: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTING.format(say=say, then="")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        assert process.wait(HANG_S) == EXIT_DRAINED
        assert process.stdout.read() == ("told\n" if "told" in say else "")


def test_a_signal_that_does_not_wake_the_main_thread_is_seen_all_the_same() -> None:
    script = STARTING.format(say="lambda: print('told', flush=True)", then=NOTED_ELSEWHERE)
    ended = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=HANG_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (EXIT_DRAINED, "waiting\ntold\n")


def test_closing_that_takes_too_long_ends_the_process_and_says_so() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CLOSING.format(then="")], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (EXIT_NOT_DRAINED, "took 0.05\n")


def test_a_deadline_that_can_not_say_so_ends_the_process_all_the_same() -> None:
    script = CLOSING.format(then="").replace('print("took", seconds, flush=True)', "1 // 0")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=HANG_S, check=False)
    assert ended.returncode == EXIT_NOT_DRAINED


def test_a_process_that_ends_in_time_does_not_wait_for_its_deadline() -> None:
    script = CLOSING.format(then="raise SystemExit(7)").replace("end.begin(0.05, 3)", "")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=HANG_S, check=False)
    assert ended.returncode == 7
