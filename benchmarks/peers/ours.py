"""The worker's own reranker, each of its backends: all queries at once on one event loop, as the pipeline has them."""

import asyncio
from collections.abc import Mapping, Sequence

from benchmarks.peers.base import Padding, Scores, Setting, UnavailableError
from benchmarks.workload import Asked
from worker.batching.batcher import BatchReport
from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError
from worker.models.resolve import ResolvedModel
from worker.rerank.scorer import Scorer, load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings


class Ours:
    """``MicroBatchedReranker`` over one scorer."""

    def __init__(
        self, name: str, precision: str, scorer: Scorer, settings: RerankSettings, executor: SingleThreadExecutor
    ) -> None:
        self.name, self.precision = name, precision
        self._scorer, self._settings, self._executor = scorer, settings, executor
        self.reports: list[BatchReport] = []

    def score(self, queries: Sequence[Asked]) -> Scores:
        return asyncio.run(self._all(queries))

    async def _all(self, queries: Sequence[Asked]) -> Scores:
        reranker = MicroBatchedReranker(
            self._scorer,
            self._settings,
            prior_weight=0,
            on_batch=self.reports.append,
            executor=self._executor,
        )
        try:
            rankings = await asyncio.gather(*(reranker.rerank(asked.query, asked.candidates) for asked in queries))
        finally:
            await reranker.close()
        # Ranked best first; recall ranks number the candidates as they came.
        by_rank = [{each.candidate.recall_rank: each.logit or 0.0 for each in ranking} for ranking in rankings]
        return [[logits[rank] for rank in sorted(logits)] for logits in by_rank]

    def padding(self) -> Padding | None:
        reports, self.reports = self.reports, []
        return Padding(sum(each.cost for each in reports), sum(each.padded_cost for each in reports))

    def close(self) -> None:
        pass


def load(setting: Setting, name: str, backend: str, changes: Mapping[str, object]) -> Ours:
    """Load the model in one backend and changed settings. UnavailableError in the worker's words if it refuses."""
    settings = RerankSettings.model_validate(
        {
            "model": setting.name,
            "backend": backend,
            "device": setting.device,
            "threads": setting.threads,
            "max_length": setting.max_length,
            **changes,
        }
    )
    try:
        model = ResolvedModel("cross-encoder", setting.name, setting.folder, "folder")
        scorer = setting.executor.submit(lambda: load_scorer(model, settings, setting.cache)).result()
    except FatalError as error:
        raise UnavailableError(str(error)) from error
    # A figure under the wrong name is worse than none.
    if backend != "torch" and backend not in _running(scorer).lower():
        raise UnavailableError(f"the worker ran {_running(scorer)} where {backend} was asked for")
    half = "float16" if setting.device.startswith("cuda") else "float32"
    return Ours(name, half if settings.dtype == "auto" else settings.dtype, scorer, settings, setting.executor)


def _running(scorer: Scorer) -> str:
    return type(getattr(scorer, "_backend", None)).__name__
