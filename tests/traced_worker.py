"""The worker as production runs it, telling which of its files one query passes through.

``trace`` is called in its process beforehand: on SIGUSR1 it begins to note the files of ``worker`` whose functions are
called, on any thread; on SIGUSR2 it writes them to a file, one a line.
"""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = str(Path(__file__).parents[1] / "worker") + "/"

called: set[str] = set()
noting = threading.Event()


def trace(told: Path) -> None:
    """Trace this process, which has no other thread yet."""

    def begin(_number: int, _frame: FrameType | None) -> None:
        noting.set()

    def tell(_number: int, _frame: FrameType | None) -> None:
        noting.clear()
        # Written whole or not at all: the test waits for the file.
        scratch = told.with_suffix(".new")
        scratch.write_text("\n".join(sorted(called)))
        scratch.rename(told)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, tell)
    threading.setprofile(_note)
    sys.setprofile(_note)


def _note(frame: FrameType, event: str, _argument: Any) -> None:
    if noting.is_set() and event == "call" and frame.f_code.co_filename.startswith(ROOT):
        called.add(frame.f_code.co_filename.removeprefix(ROOT))
