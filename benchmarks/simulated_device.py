"""SIMULATION: a GPU that takes its time and no processor, behind the worker's own tokenizer, batches and scorer.

What the host does for each query and each pair is real; the forward pass is a wait, recall a list in memory.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

from benchmarks.gpu.subject import Asked, Texts
from worker.domain import Query, Recalled
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.models.resolve import resolve
from worker.rerank.backends.device import (
    DEVICE_BATCH_PAIRS,
    GPU_BATCH_TOKENS_PER_MULTIPROCESSOR,
    Batches,
    Pending,
)
from worker.rerank.pairs.batch import FlatBatch
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings, Settings

TOKENS = 128
"""Of each pair: its texts are longer and cut."""
MULTIPROCESSORS = 80
"""Of a device that scores some 30,000 pairs/s: its batches are sized by them."""
KNOWN_QUERIES = 400
"""Whose candidates recall finds in turn; all their documents fit the cache of tokens, as those often recalled do."""
RERANK = RerankSettings(model=CROSS_ENCODER_NAME, max_length=TOKENS)


class SimulatedDevice:
    """Implements ``Backend``: scores ``pairs_per_s``, one batch after the other, as a GPU does that is never late."""

    batches = Batches(
        padded=False,
        tokens=GPU_BATCH_TOKENS_PER_MULTIPROCESSOR * MULTIPROCESSORS,
        pairs=DEVICE_BATCH_PAIRS,
        under_way=2,
    )

    def __init__(self, pairs_per_s: float) -> None:
        self._pairs_per_s = pairs_per_s
        self._free_s = 0.0
        """When it is done with what was started, on the monotonic clock."""

    def start(self, batch: FlatBatch) -> Pending:
        """Queue a batch behind those under way; see ``Backend``."""
        pairs = len(batch.lengths)
        self._free_s = max(self._free_s, time.monotonic()) + pairs / self._pairs_per_s
        # Any number that differs from pair to pair will do.
        scores: list[float] = (batch.ids[batch.starts[1:] - 2] / 1000).tolist()
        return partial(_at, self._free_s, scores)


def _at(done_s: float, scores: list[float]) -> list[float]:
    time.sleep(max(0.0, done_s - time.monotonic()))
    return scores


def simulated_scorer(pairs_per_s: float, settings: RerankSettings = RERANK) -> CrossEncoderScorer:
    """Return the worker's own scorer on a simulated device; blocks for the tokenizer."""
    model = resolve("cross-encoder", Settings(models="offline", rerank=settings))
    with patch("worker.rerank.scorer.load_backend", return_value=SimulatedDevice(pairs_per_s)):
        return CrossEncoderScorer(model.path, "simulation", settings)


def settle_heap() -> None:
    """Do what a worker does before it joins; that of an older checkout (``host_path --against``) does nothing."""
    try:
        from worker.app import heap  # noqa: PLC0415 - perhaps not there
    except ImportError:
        return
    heap.settle_heap()


def known_queries() -> list[Asked]:
    """Return queries of 20 candidates whose pairs all have ``TOKENS``."""
    return Texts().queries(KNOWN_QUERIES, [TOKENS])


@dataclass
class KnownRecall:
    """Implements ``Recall``: the candidates of the known queries in turn, ready-made and for nothing."""

    known: Sequence[Asked]
    _asked: int = 0

    async def recall(self, query: Query) -> Recalled:  # noqa: ARG002 - whatever is asked
        self._asked += 1
        return Recalled(self.known[self._asked % len(self.known)].candidates)
