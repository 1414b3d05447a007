"""A real worker whose scorer hangs, as a driver does that never answers: ``python -m tests.hanging_worker``."""

import asyncio
import signal
import threading
from collections.abc import Sequence

from worker.app.run import run_worker
from worker.rerank import stage
from worker.rerank.pairs.tokenizer import EncodedPair
from worker.rerank.scorer import Scorer
from worker.settings.load import load_settings

HANG_SIGNAL = signal.SIGUSR1


def hang(_score: object, _pairs: Sequence[EncodedPair]) -> list[float]:
    threading.Event().wait()
    raise AssertionError("nobody sets it")


def hang_on_signal() -> None:
    """Have the scorer of this process hang from the signal on; called before the worker is built."""
    told = threading.Event()
    score = stage._score_distinct

    def score_or_hang(scorer: Scorer, pairs: Sequence[EncodedPair]) -> list[float | Exception]:
        return hang(scorer, pairs) if told.is_set() else score(scorer, pairs)

    stage._score_distinct = score_or_hang
    signal.signal(HANG_SIGNAL, lambda _number, _frame: told.set())


if __name__ == "__main__":
    stage._score_distinct = hang
    raise SystemExit(asyncio.run(run_worker(load_settings())))
