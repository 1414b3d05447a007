"""How a process is told to end: a command where it is; a worker at once while it starts, later by a drain, in time.

Imports nothing heavy: the command sets the first handler before torch is loaded, which takes seconds.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_DRAINED = 0
EXIT_FATAL = 1
EXIT_NOT_DRAINED = 3
EXIT_SECOND_SIGNAL = 130

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

TURN_S = 0.5
"""How late a signal may be seen that came in the instant before the main thread began to wait."""


@contextmanager
def interruptible(
    *numbers: signal.Signals, ending: Callable[[int], BaseException], say: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Let these signals end the body with what ``ending`` makes of the signal's number. For the main thread.

    A handler's exception comes up wherever the main thread is, and a C extension may put one of its own in its place:
    confluent_kafka's constructors raise TypeError or SystemError instead. So what leaves the body after a signal is
    the ending, whatever came up; also where nothing did, because somebody swallowed it.
    """
    noted: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        _say_in_a_handler(say)
        raise ending(number)

    former = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    except BaseException as error:
        if not noted:
            raise
        raise ending(noted[0]) from error
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if noted:
        raise ending(noted[0])


def exit_on_signals(say: Callable[[], None] = lambda: None) -> None:
    """End the process with exit code 0 on SIGTERM or SIGINT, from the main thread, whatever the others are doing.

    For a worker that starts: it holds nothing that would have to be given back, and what it waits for (a broker, a
    model, an import) may take minutes. A plain handler instead of the loop's, so that a loop that is busy importing
    obeys too; and one at all, since without it a process with the id 1, as in a container, would ignore SIGTERM.

    The main thread must not wait without an end: Python looks for signals between two instructions, so one that comes
    after the last look and before the wait begins is seen when the wait ends. A loop waits so; see ``keep_turning``.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        _say_in_a_handler(say)
        os._exit(EXIT_DRAINED)

    for number in STOP_SIGNALS:
        signal.signal(number, end)


def _say_in_a_handler(say: Callable[[], None]) -> None:
    # The signal may have come in the middle of writing a line, which then can't be begun again.
    with suppress(RuntimeError):
        say()


async def keep_turning() -> None:
    """Wake the loop now and then, until cancelled, so that it sees what ``exit_on_signals`` is waiting for."""
    import asyncio  # noqa: PLC0415 - the handler is to be there before anything that takes its time

    while True:  # noqa: ASYNC110 - it waits for nothing that could set an event
        await asyncio.sleep(TURN_S)


class EndDeadline:
    """Ends the process when closing it takes longer than promised. Any thread may call ``begin``.

    Drain and close are made of waits for brokers and threads, each bounded by itself; their sum is minutes. Whoever
    kills the process after a grace period needs one number. What is not committed by then is worked on again, as after
    a crash.
    """

    def __init__(self, say: Callable[[float], None]) -> None:
        """``say`` is told the seconds it took, from a thread of the deadline's own, right before the end."""
        self._say = say
        self._timer: threading.Timer | None = None

    def begin(self, seconds: float, exit_code: int) -> None:
        """Let the process end with this code after so long, if it still runs; only the first call counts."""
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._end, (seconds, exit_code))
            self._timer.daemon = True
            self._timer.start()

    def _end(self, seconds: float, exit_code: int) -> None:
        try:
            self._say(seconds)
        finally:
            os._exit(exit_code)
