"""Pairs per second: ``CrossEncoder.predict``, the bare forward passes of each backend, and the stage around them."""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from benchmarks import gemm
from benchmarks.gpu.subject import Asked
from worker.batching.batcher import BatchReport
from worker.batching.executor import compute_executor
from worker.rerank.backends.device import Pending
from worker.rerank.backends.load import load_backend
from worker.rerank.pairs.batch import EncodedPair, FlatBatch
from worker.rerank.scorer import CrossEncoderScorer, Scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each figure may take."""

    seconds: float
    """Of one repeat, about."""
    repeats: int


def predict(
    folder: Path, device: str, queries: Sequence[Asked], max_length: int, batch_size: int, effort: Effort
) -> float:
    """Return the pairs per second of ``CrossEncoder.predict`` in the device's usual precision, in one call."""
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    model = CrossEncoder(str(folder), device=device, max_length=max_length, model_kwargs={"dtype": dtype})
    pairs = [(each.query.text, text) for each in queries for text in each.texts]
    call = partial(model.predict, pairs, batch_size=batch_size, activation_fn=torch.nn.Identity())
    return len(pairs) / _median_s(call, effort)


def batches_of(pairs: Sequence[EncodedPair], tokens: int) -> list[FlatBatch]:
    """Return the pairs as batches of at most so many tokens, in their order."""
    batches: list[FlatBatch] = []
    mine: list[EncodedPair] = []
    cost = 0
    for pair in pairs:
        if mine and cost + pair.tokens > tokens:
            batches.append(FlatBatch.of(mine))
            mine, cost = [], 0
        mine.append(pair)
        cost += pair.tokens
    return [*batches, FlatBatch.of(mine)]


def forward(folder: Path, settings: RerankSettings, batches: Sequence[FlatBatch], effort: Effort) -> dict[str, Any]:
    """Return the pairs per second of forward passes alone, one started ahead; memory; and time to start one, in ms."""
    backend = load_backend(folder, settings, folder)
    on_cuda = settings.device.startswith("cuda")
    starting_s: list[float] = []

    def run() -> None:
        waiting: deque[Pending] = deque()
        for batch in batches:
            begun_s = time.perf_counter()
            waiting.append(backend.start(batch))
            starting_s.append(time.perf_counter() - begun_s)
            if len(waiting) == backend.batches.under_way:
                waiting.popleft()()
        for wait in waiting:
            wait()

    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = _median_s(run, effort)
    return {
        "pairs_per_s": sum(len(batch.lengths) for batch in batches) / seconds,
        "tokens_per_s": sum(len(batch.ids) for batch in batches) / seconds,
        "start_ms": 1000 * statistics.median(starting_s),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_cuda else None,
    }


def stage(
    folder: Path, settings: RerankSettings, queries: Sequence[Asked], effort: Effort, clients: int
) -> dict[str, Any]:
    """Return what the worker's rerank stage does with so many queries at once, from texts to rankings."""
    new_scorer = partial(CrossEncoderScorer, folder, "random", settings)
    return asyncio.run(stage_around(new_scorer, settings, queries, effort, clients))


async def stage_around(
    new_scorer: Callable[[], Scorer], settings: RerankSettings, queries: Sequence[Asked], effort: Effort, clients: int
) -> dict[str, Any]:
    """Return what the stage does around this scorer; see ``stage``."""
    reports: list[BatchReport] = []
    async with compute_executor() as executor:
        scorer = await executor.run(new_scorer)
        reranker = MicroBatchedReranker(scorer, settings, prior_weight=0, on_batch=reports.append, executor=executor)

        async def client(mine: Sequence[Asked]) -> None:
            for asked in mine:
                await reranker.rerank(asked.query, asked.candidates)

        async def run() -> tuple[float, float]:
            begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
            await asyncio.gather(*(client(queries[number::clients]) for number in range(clients)))
            return time.perf_counter() - begun_s, time.process_time() - begun_cpu_s

        await run()
        took: list[tuple[float, float]] = []
        shares = []
        while len(took) < effort.repeats or sum(seconds for seconds, _ in took) < effort.seconds:
            reports.clear()
            took.append(await run())
            shares.append(sum(report.seconds for report in reports) / took[-1][0])
        await reranker.close()
    pairs = sum(len(asked.candidates) for asked in queries)
    seconds, cpu_s = statistics.median(s for s, _ in took), statistics.median(s for _, s in took)
    return {
        "pairs_per_s": pairs / seconds,
        "device_busy": statistics.median(shares),
        "process_cpu_us_per_pair": 1e6 * cpu_s / pairs,
        "pairs_per_batch": statistics.mean(report.items for report in reports),
        "batch_ms": 1000 * statistics.median(report.seconds for report in reports),
    }


def kernels(folder: Path, settings: RerankSettings, batch: FlatBatch, most: int = 16) -> Iterator[dict[str, Any]]:
    """Yield the operators of one forward pass that take most of the device's time, in us."""
    backend = load_backend(folder, settings, folder)
    backend.start(batch)()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if settings.device.startswith("cuda"):
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        backend.start(batch)()
        gemm.synchronise(settings.device)
    spent = "self_device_time_total" if settings.device.startswith("cuda") else "self_cpu_time_total"
    for event in sorted(profile.key_averages(), key=lambda event: -getattr(event, spent))[:most]:
        yield {"name": event.key[:90], "calls": event.count, "us": round(getattr(event, spent), 1)}


def _median_s(run: Callable[[], object], effort: Effort) -> float:
    """Run once to warm up, then for the time and the repeats of the effort; return the median, in seconds."""
    run()
    took: list[float] = []
    while len(took) < effort.repeats or sum(took) < effort.seconds:
        begun_s = time.perf_counter()
        run()
        took.append(time.perf_counter() - begun_s)
    return float(np.median(took))
