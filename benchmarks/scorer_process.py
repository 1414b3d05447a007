"""The worker's scorer in a process of its own, with a wait policy of OpenMP's since before it loads torch."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer

from benchmarks.workload import Workload, articles
from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.models.resolve import resolve
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import DEFAULT_CACHE_DIR, RerankSettings, Settings

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


class Scoring(NamedTuple):
    """What computes, and with how many threads."""

    backend: str
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What a visit gave."""

    pairs_per_s: float
    cpu_ms_per_pair: float
    """Of all its threads, spinning included: what the neighbours are left without."""


class ScorerProcess:
    """Scores as it is asked to, one request at a time; what loads it blocks for seconds."""

    def __init__(self, requests: "Connection[Any, Any]") -> None:
        self._requests = requests
        self.variables: Mapping[str, str]
        self.scorings: list[Scoring]
        self.skipped: Mapping[str, str]
        self.variables, self.scorings, self.skipped = requests.recv()

    @classmethod
    @contextmanager
    def running(
        cls, policy: Mapping[str, str], mix: str, computes: Sequence[tuple[str, str]], threads: Sequence[int]
    ) -> Iterator["ScorerProcess"]:
        """Own one, its scorers loaded and warm; without a policy it has the worker's."""
        mine, its = multiprocessing.Pipe()
        # Spawned, not forked: a fork would have the libgomp that is loaded here.
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(its, mix, computes, threads), daemon=True
        )
        with environment(policy):
            process.start()
        its.close()
        try:
            yield cls(mine)
        finally:
            process.terminate()
            process.join()

    def rate(self, scoring: Scoring, seconds: float) -> Rate:
        """Score for about so long; blocks."""
        self._requests.send((scoring, seconds))
        rate: Rate = self._requests.recv()
        return rate


@contextmanager
def environment(policy: Mapping[str, str]) -> Iterator[None]:
    """Let processes that are started meanwhile have this policy alone: the worker's own, if it is empty."""
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    os.environ.update(policy)
    try:
        yield
    finally:
        for name in policy:
            del os.environ[name]
        os.environ.update(kept)


def serve(
    requests: "Connection[Any, Any]", mix: str, computes: Sequence[tuple[str, str]], threads: Sequence[int]
) -> None:
    """Load, tell what there is, and score until the process is ended."""
    executor = SingleThreadExecutor("compute")
    model = resolve("cross-encoder", Settings(models="offline", rerank=RerankSettings(model=CROSS_ENCODER_NAME)))
    tokenizer = AutoTokenizer.from_pretrained(model.path, local_files_only=True)
    asked = Workload(articles()[0], tokenizer, RerankSettings().max_length, scale=1).round(0, [mix])[0].queries[0]
    scorers: dict[Scoring, CrossEncoderScorer] = {}
    skipped: dict[str, str] = {}
    for scoring in (Scoring(*compute, count) for compute in computes for count in threads):
        values = {"model": CROSS_ENCODER_NAME, "device": "cpu", **scoring._asdict()}
        settings = RerankSettings.model_validate(values)
        load = partial(CrossEncoderScorer, model.path, model.name, settings, DEFAULT_CACHE_DIR.expanduser())
        try:
            scorers[scoring] = executor.submit(load).result()
        except FatalError as error:
            skipped[f"{scoring.backend} {scoring.dtype}"] = str(error)
    # The same pairs at each visit: a slow one must not have shorter texts than a fast one.
    batch = next(iter(scorers.values())).encode(asked.query.text, asked.texts)
    told = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    requests.send((told, list(scorers), skipped))
    while True:
        scoring, seconds = requests.recv()
        requests.send(executor.submit(partial(_rate, scorers[scoring], scoring.threads, batch, seconds)).result())


def _rate(scorer: CrossEncoderScorer, threads: int, batch: Sequence[EncodedPair], seconds: float) -> Rate:
    torch.set_num_threads(threads)
    scorer.score(batch)
    begun_s, begun_cpu_s, batches = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun_s < seconds:
        scorer.score(batch)
        batches += 1
    wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    pairs = batches * len(batch)
    return Rate(pairs / wall_s, 1000 * cpu_s / pairs)
