"""What becomes of a process that is told to end: its commands, the start of its worker, the deadline of its close."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from tests.patience import HANG_S
from worker.app.stopping import EXIT_DRAINED, EXIT_NOT_DRAINED, STOP_SIGNALS, interruptible

STARTING = """
import asyncio, os, signal, threading
from worker.app.stopping import exit_on_signals, keep_turning
exit_on_signals({say})
threading.Thread(target=threading.Event().wait).start()  # the interpreter alone would wait for it for ever
async def wait():
    turning = asyncio.create_task(keep_turning())
    # Past `print`: a signal that comes while that writes finds nothing said, for a line can't be begun within a line.
    os.write(1, b"waiting\\n")
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


class Interrupting(str):
    """A name in the middle of whose reading the signal comes."""

    __slots__ = ()

    def __str__(self) -> str:
        signal.raise_signal(signal.SIGINT)
        return "never read"


def test_the_client_library_puts_an_error_of_its_own_in_the_place_of_an_interruption() -> None:
    # Else nothing would have to be kept of the signal, and interruptible() could go.
    with pytest.raises(TypeError, match="expected configuration property name"):
        AdminClient({Interrupting("client.id"): "a"})


def replaced(number: signal.Signals) -> None:
    try:
        signal.raise_signal(number)
    except BaseException:  # noqa: BLE001 - as a C extension does
        raise TypeError("expected configuration property name as type unicode string") from None


def swallowed(number: signal.Signals) -> None:
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("body", [signal.raise_signal, replaced, swallowed])
def test_an_interruption_leaves_as_what_it_is_whatever_a_library_made_of_it(
    number: signal.Signals, body: Callable[[signal.Signals], None]
) -> None:
    told: list[str] = []
    former = signal.getsignal(number)
    with (
        pytest.raises(SystemExit, match=str(128 + number)),
        interruptible(number, ending=lambda got: SystemExit(128 + got), say=lambda: told.append("stopping")),
    ):
        body(number)
    assert told == ["stopping"]
    assert signal.getsignal(number) is former


def test_what_goes_wrong_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(TypeError, match="ours"), interruptible(signal.SIGINT, ending=lambda _: KeyboardInterrupt()):
        raise TypeError("ours")
