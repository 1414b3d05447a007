"""A real worker whose scorer hangs, as a driver does that never answers: ``python -m tests.hanging_worker``."""

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence

from worker.app.run import run_worker
from worker.rerank import stage
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.scorer import Scorer
from worker.settings.load import load_settings

HANG_SIGNAL = signal.SIGUSR1


Wait = Callable[[], list[float | Exception]]


def hang(_scorer: Scorer, _pairs: Sequence[EncodedPair]) -> Wait:
    threading.Event().wait()
    raise AssertionError("nobody sets it")


def hang_on_signal() -> None:
    """Have the scorer of this process hang from the signal on; called before the worker is built."""
    told = threading.Event()
    start = stage._started

    def start_or_hang(scorer: Scorer, pairs: Sequence[EncodedPair]) -> Wait:
        return hang(scorer, pairs) if told.is_set() else start(scorer, pairs)

    stage._started = start_or_hang
    signal.signal(HANG_SIGNAL, lambda _number, _frame: told.set())


if __name__ == "__main__":
    stage._started = hang
    raise SystemExit(asyncio.run(run_worker(load_settings())))
