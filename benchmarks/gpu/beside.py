"""What one process does, and several on one device; with an embedder beside the scorer; with a query's whole way.

No Kafka: where it can't be carried, records come from a list and outcomes end as bytes.
"""

import asyncio
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from benchmarks import gemm
from benchmarks.gpu.speed import Effort, stage
from benchmarks.gpu.subject import Asked
from worker.batching.executor import compute_executor
from worker.domain import Query, Recalled
from worker.rerank.scorer import CrossEncoderScorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings, Settings

QUESTIONS = 32
JOIN_S = 120.0


def several(
    folder: Path, settings: RerankSettings, queries: Sequence[Asked], effort: Effort, clients: int, processes: int
) -> dict[str, Any]:
    """Return the pairs per second of so many processes on the device, each with a stage of its own."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    found: multiprocessing.Queue[tuple[float, float, dict[str, Any]]] = context.Queue()
    workers = [
        context.Process(target=_one_of_several, args=(ready, found, folder, settings, queries, effort, clients))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait(JOIN_S)
    results = [found.get(timeout=JOIN_S) for _ in workers]
    for worker in workers:
        worker.join(JOIN_S)
    return {
        "processes": processes,
        "pairs_per_s": sum(result["pairs_per_s"] for _, _, result in results),
        # What was not measured at the same time is no sum.
        "overlap": (min(end for _, end, _ in results) - max(begin for begin, _, _ in results))
        / max(end - begin for begin, end, _ in results),
        "process_cpu_us_per_pair": statistics.mean(result["process_cpu_us_per_pair"] for _, _, result in results),
    }


def _one_of_several(
    ready: Any,
    found: Any,
    folder: Path,
    settings: RerankSettings,
    queries: Sequence[Asked],
    effort: Effort,
    clients: int,
) -> None:
    # Loaded and warm before the clock starts.
    stage(folder, settings, queries, Effort(0, 1), clients)
    ready.wait(JOIN_S)
    begun_s = time.time()
    result = stage(folder, settings, queries, effort, clients)
    found.put((begun_s, time.time(), result))


def with_embedder(
    folder: Path,
    embedder: Path,
    settings: RerankSettings,
    queries: Sequence[Asked],
    effort: Effort,
    clients: int,
) -> dict[str, Any]:
    """Return the stage's figures while another thread embeds questions on the same device, 32 at a time."""
    model = SentenceTransformer(str(embedder), device=settings.device)
    if settings.device.startswith("cuda"):
        model = model.half()
    questions = [each.query.text for each in queries[:QUESTIONS]]
    stop = threading.Event()
    took_s: list[float] = []

    def embed() -> None:
        stream = torch.cuda.Stream() if settings.device.startswith("cuda") else None
        with torch.cuda.stream(stream):
            while not stop.is_set():
                begun_s = time.perf_counter()
                model.encode(questions, batch_size=QUESTIONS, show_progress_bar=False)
                took_s.append(time.perf_counter() - begun_s)

    embed_once_s = _timed_s(lambda: model.encode(questions, batch_size=QUESTIONS, show_progress_bar=False))
    thread = threading.Thread(target=embed, daemon=True)
    thread.start()
    try:
        figures = stage(folder, settings, queries, effort, clients)
    finally:
        stop.set()
        thread.join(JOIN_S)
    gemm.synchronise(settings.device)
    return {
        **figures,
        "questions_embedded_per_s": QUESTIONS / statistics.median(took_s),
        "questions_embedded_per_s_alone": QUESTIONS / embed_once_s,
    }


def _timed_s(run: Any) -> float:
    run()
    begun_s = time.perf_counter()
    run()
    return time.perf_counter() - begun_s


class KnownRecall:
    """Implements ``Recall``: SIMULATION, each query's own passages at once."""

    def __init__(self, queries: Sequence[Asked]) -> None:
        self._of = {each.query.id: Recalled(each.candidates) for each in queries}

    async def recall(self, query: Query) -> Recalled:
        return self._of[query.id]


def whole_way(
    folder: Path, settings: RerankSettings, queries: Sequence[Asked], effort: Effort, in_flight: int
) -> dict[str, Any]:
    """Return what a worker does from a record's bytes to the answer's, recall simulated and Kafka left out."""
    try:
        import benchmarks.gpu.jobs  # noqa: F401, PLC0415 - needs packages a bare machine may lack
    except ModuleNotFoundError as error:
        return {"skipped": f"{error.name} is not installed"}
    return asyncio.run(_whole_way(folder, settings, queries, effort, in_flight))


async def _whole_way(
    folder: Path, rerank: RerankSettings, queries: Sequence[Asked], effort: Effort, in_flight: int
) -> dict[str, Any]:
    from benchmarks.gpu.jobs import jobs  # noqa: PLC0415 - as above

    settings = Settings(rerank=rerank)
    events = [json.dumps({"id": q.query.id, "text": q.query.text, "generate": False}).encode() for q in queries]
    async with compute_executor() as executor:
        scorer = await executor.run(lambda: CrossEncoderScorer(folder, "random", rerank))
        reranker = MicroBatchedReranker(scorer, rerank, prior_weight=0, on_batch=lambda _: None, executor=executor)
        job = jobs(settings, KnownRecall(queries), reranker)
        places = asyncio.Semaphore(in_flight)

        async def one(event: bytes) -> None:
            try:
                await job(event)
            finally:
                places.release()

        async def run() -> tuple[float, float]:
            begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for event in events:
                    await places.acquire()
                    group.create_task(one(event))
            return time.perf_counter() - begun_s, time.process_time() - begun_cpu_s

        await run()
        took: list[tuple[float, float]] = []
        while len(took) < effort.repeats or sum(seconds for seconds, _ in took) < effort.seconds:
            took.append(await run())
        await reranker.close()
    seconds, cpu_s = statistics.median(s for s, _ in took), statistics.median(s for _, s in took)
    pairs = sum(len(each.candidates) for each in queries)
    return {
        "queries_per_s": len(queries) / seconds,
        "pairs_per_s": pairs / seconds,
        "process_cpu_us_per_query": 1e6 * cpu_s / len(queries),
    }
