"""The worker as production runs it, telling which of its files one query passes through.

``python -m tests.traced_worker FILE``: on SIGUSR1 it begins to note the files of ``worker`` whose functions are called,
on any thread; on SIGUSR2 it writes them to FILE, one a line.
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


def note(frame: FrameType, event: str, _argument: Any) -> None:
    if noting.is_set() and event == "call" and frame.f_code.co_filename.startswith(ROOT):
        called.add(frame.f_code.co_filename.removeprefix(ROOT))


def begin(_number: int, _frame: FrameType | None) -> None:
    noting.set()


def tell(_number: int, _frame: FrameType | None) -> None:
    noting.clear()
    # Written whole or not at all: the test waits for the file.
    scratch = Path(sys.argv[1]).with_suffix(".new")
    scratch.write_text("\n".join(sorted(called)))
    scratch.rename(sys.argv[1])


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, tell)
    # Before anything starts a thread.
    threading.setprofile(note)
    sys.setprofile(note)

    import asyncio

    from worker.app.run import run_worker
    from worker.settings.load import load_settings

    raise SystemExit(asyncio.run(run_worker(load_settings())))
