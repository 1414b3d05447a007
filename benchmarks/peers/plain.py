"""sentence-transformers as most people call it: one query at a time, or everything in one call."""

from collections.abc import Sequence

import torch
from sentence_transformers import CrossEncoder

from benchmarks.peers.base import Padding, Scores, Setting
from benchmarks.workload import Asked
from worker.batching.executor import SingleThreadExecutor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT_BATCH = 32


def load(setting: Setting, precision: str = "float32") -> CrossEncoder:
    return setting.executor.submit(lambda: _load(setting, precision)).result()


def _load(setting: Setting, precision: str) -> CrossEncoder:
    torch.set_num_threads(setting.threads)
    model: CrossEncoder = CrossEncoder(
        str(setting.folder),
        device=setting.device,
        # Its default is the tokenizer's own window, 512 for this model as for ours: said, so that it stays equal.
        max_length=setting.max_length,
        model_kwargs={"dtype": DTYPES[precision]},
        local_files_only=True,
    )
    return model


class PerQuery:
    """A loop over queries, ``predict`` on each one's 20 pairs."""

    def __init__(
        self, model: CrossEncoder, name: str, executor: SingleThreadExecutor, precision: str = "float32"
    ) -> None:
        self.name, self.precision, self._model, self._executor = name, precision, model, executor

    def score(self, queries: Sequence[Asked]) -> Scores:
        return self._executor.submit(lambda: self._scores(queries)).result()

    def _scores(self, queries: Sequence[Asked]) -> Scores:
        return [_predict(self._model, asked.pairs, DEFAULT_BATCH) for asked in queries]

    def padding(self) -> Padding | None:
        return None

    def close(self) -> None:
        pass


class AllAtOnce(PerQuery):
    """One ``predict`` over the pairs of all queries: what a batch job can do, and a server can't."""

    def __init__(
        self, model: CrossEncoder, name: str, batch: int, executor: SingleThreadExecutor, precision: str = "float32"
    ) -> None:
        super().__init__(model, name, executor, precision)
        self._batch = batch

    def _scores(self, queries: Sequence[Asked]) -> Scores:
        scores = iter(_predict(self._model, [pair for asked in queries for pair in asked.pairs], self._batch))
        return [[next(scores) for _ in asked.candidates] for asked in queries]


def _predict(model: CrossEncoder, pairs: list[tuple[str, str]], batch: int) -> list[float]:
    # Logits, whatever the model's own activation: a sigmoid in half precision saturates and hides differences.
    scores = model.predict(pairs, batch_size=batch, show_progress_bar=False, activation_fn=torch.nn.Identity())
    return [float(score) for score in scores]
