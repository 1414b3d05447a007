"""A real worker whose scorer hangs, as a driver does that never answers: what is called in its process beforehand."""

import signal
import threading
from collections.abc import Callable, Sequence

from worker.rerank import stage
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.scorer import Scorer

HANG_SIGNAL = signal.SIGUSR1


Wait = Callable[[], list[float | Exception]]


def hang() -> None:
    """Have the scorer of this process hang, from its first pairs on."""
    stage._started = _hanging


def hang_on_signal() -> None:
    """Have the scorer of this process hang from the signal on."""
    told = threading.Event()
    start = stage._started

    def start_or_hang(scorer: Scorer, pairs: Sequence[EncodedPair]) -> Wait:
        return _hanging(scorer, pairs) if told.is_set() else start(scorer, pairs)

    stage._started = start_or_hang
    signal.signal(HANG_SIGNAL, lambda _number, _frame: told.set())


def _hanging(_scorer: Scorer, _pairs: Sequence[EncodedPair]) -> Wait:
    threading.Event().wait()
    raise AssertionError("nobody sets it")
