"""What this machine does with a model: how many threads, what size of a batch, then every backend and dtype.

One setting at a time from the best so far, so that a dozen short measurements are enough. Each is measured alone and
beside a busy process, since a worker rarely has its machine to itself. Nothing is chosen for the user: the outcome is a
table, and the settings of its best rows.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from joblib import cpu_count

from worker.batching.executor import SingleThreadExecutor, compute_executor
from worker.domain import Candidate, Query
from worker.errors import FatalError
from worker.models.resolve import ResolvedModel
from worker.rerank.neighbour import busy_neighbour
from worker.rerank.scorer import Scorer, load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings

Changes = dict[str, object]

COMPUTES: tuple[Changes, ...] = (
    {"backend": "torch", "dtype": "bfloat16"},
    {"backend": "torch", "dtype": "float16"},
    {"backend": "onnx", "dtype": "float32"},
    {"backend": "onnx", "dtype": "int8"},
    {"backend": "openvino", "dtype": "float32"},
    {"backend": "openvino", "dtype": "int8"},
)
BATCH_TOKENS = (1_024, 2_048, 4_096, 8_192, 16_384)
TOP = 3
FEWEST_ROUNDS = 3
# What two measurements of one setting differ by: within it the better worst case decides.
ALIKE = 0.03

Scores = list[list[float]]
Load = Sequence[tuple[Query, Sequence[Candidate]]]
"""Queries with their candidates, scored all at once."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of settings, and what it gave."""

    settings: RerankSettings
    pairs_per_s: float
    """With the machine to itself."""
    beside_pairs_per_s: float
    """While another process keeps a core busy: the worst case."""
    query_ms: float
    """One query of the load alone, from candidates to ranking; the median."""
    largest_difference: float
    """Between its scores and the first trial's, which is float32."""
    same_top: float
    """Share of the queries whose best three are the first trial's."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One combination that this machine, or this model, does not do, and why."""

    settings: RerankSettings
    reason: str


class Tuner:
    """Measures one model on one load. Its own event loop runs each trial: use it where none runs."""

    def __init__(
        self, model: ResolvedModel, start: RerankSettings, load: Load, *, cache_dir: Path, seconds: float
    ) -> None:
        """Take about ``seconds`` a trial, loading apart. ``start``: what is not tried stays as it is there."""
        self._model = model
        self._start = start
        self._load = load
        self._cache_dir = cache_dir
        self._seconds = seconds
        self._reference: Scores | None = None

    def outcomes(self) -> Iterator[Trial | Refusal]:
        """Yield each outcome as it comes; blocks between two of them. FatalError if not even the first can be had."""
        first = self._try({"backend": "torch", "dtype": "float32"})
        if isinstance(first, Refusal):
            raise FatalError(first.reason)
        yield first
        trials = [first]
        for changes in (*self._fewer_threads(), *self._batches(), *COMPUTES):
            # The winners so far, with one thing changed.
            best = recommended(trials).settings
            kept = {name: getattr(best, name) for name in ("backend", "dtype", "threads", "batch_tokens")}
            outcome = self._try(kept | changes)
            yield outcome
            if isinstance(outcome, Trial):
                trials.append(outcome)

    def _fewer_threads(self) -> Iterator[Changes]:
        most = self._start.threads or cpu_count()
        return ({"threads": threads} for threads in (1, 2, 4, 8, 16, 32, 64) if threads < most)

    def _batches(self) -> Iterator[Changes]:
        return ({"batch_tokens": tokens} for tokens in BATCH_TOKENS if tokens >= self._start.max_length)

    def _try(self, changes: Changes) -> Trial | Refusal:
        settings = self._start.model_copy(update=changes)
        return asyncio.run(self._tried(settings))

    async def _tried(self, settings: RerankSettings) -> Trial | Refusal:
        # A thread of its own for each trial, gone with it, as a worker has one.
        async with compute_executor() as executor:
            try:
                scorer = await executor.run(partial(load_scorer, self._model, settings, self._cache_dir))
            except FatalError as error:
                return Refusal(settings, str(error))
            return await self._measured(scorer, settings, executor)

    async def _measured(self, scorer: Scorer, settings: RerankSettings, executor: SingleThreadExecutor) -> Trial:
        reranker = MicroBatchedReranker(
            scorer, settings, prior_weight=0, on_batch=lambda _report: None, executor=executor
        )
        try:
            scores = await _scores(reranker, self._load)
            together_s = await _median_s(lambda: _scores(reranker, self._load), self._seconds)
            alone_s = await _median_s(lambda: _scores(reranker, self._load[:1]), self._seconds / 4)
            with busy_neighbour():
                beside_s = await _median_s(lambda: _scores(reranker, self._load), self._seconds)
        finally:
            await reranker.close()
        reference = self._reference = self._reference or scores
        rows = list(zip(scores, reference, strict=True))
        pairs = sum(map(len, scores))
        return Trial(
            settings,
            pairs_per_s=pairs / together_s,
            beside_pairs_per_s=pairs / beside_s,
            query_ms=1000 * alone_s,
            largest_difference=max(abs(a - b) for mine, theirs in rows for a, b in zip(mine, theirs, strict=True)),
            same_top=statistics.mean(_top(mine) == _top(theirs) for mine, theirs in rows),
        )


def recommended(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the best worst case of those that are as fast as the fastest, within ``ALIKE``."""
    most = max(trial.pairs_per_s for trial in trials)
    return steadiest([trial for trial in trials if trial.pairs_per_s >= (1 - ALIKE) * most])


def steadiest(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the best worst case, whatever it does alone."""
    return max(trials, key=lambda trial: trial.beside_pairs_per_s)


async def _scores(reranker: MicroBatchedReranker, load: Load) -> Scores:
    """Rerank all queries at once; return each one's logits in the order of its candidates."""
    rankings = await asyncio.gather(*(reranker.rerank(query, candidates) for query, candidates in load))
    return [
        [context.logit or 0.0 for context in sorted(ranking, key=lambda context: context.candidate.recall_rank)]
        for ranking in rankings
    ]


async def _median_s(run: Callable[[], Awaitable[object]], seconds: float) -> float:
    """Repeat for about that long, three times at least; return the median duration, in seconds."""
    taken_s: list[float] = []
    while len(taken_s) < FEWEST_ROUNDS or sum(taken_s) < seconds:
        begun_s = time.perf_counter()
        await run()
        taken_s.append(time.perf_counter() - begun_s)
    return statistics.median(taken_s)


def _top(scores: Sequence[float]) -> set[int]:
    return set(sorted(range(len(scores)), key=lambda place: -scores[place])[:TOP])
