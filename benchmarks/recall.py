"""Queries per second and latency of recall as more searches are under way, against a real Chroma server.

``python -m benchmarks.recall [--vectors N] [--concurrency N ...]`` writes ``results/recall.json``; some 8 minutes
with 100,000 vectors. The worker's own stage searches; its EMBEDDER IS SIMULATED (vectors of random directions, made
in advance), so that recall alone is seen. Every round measures each concurrency, the order rotating; ``ratio`` is to
concurrency 1, one call at a time, in the same round. Look at ``cores_used`` and at what the server took: where its
cores are used up, more calls only wait there.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import percentile, print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.vectors import DIMENSION, EMBEDDING, fill, passages
from worker.batching.batcher import BatchReport
from worker.domain import Query
from worker.local.chroma import local_chroma
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import Vectors
from worker.recall.stage import BatchedRecall
from worker.settings import RecallSettings

COLLECTION = "benchmark"
WORDS = 80
QUESTIONS = 2_000
BASELINE = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--in-flight", type=int, default=64, help="queries that are asked at once")
    parser.add_argument("--queries", type=int, default=2_000, help="of each concurrency in each round")
    parser.add_argument("--alone", type=int, default=100, help="queries asked one at a time, of each in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    concurrencies = [BASELINE, *(value for value in options.concurrency if value != BASELINE)]
    machine = facts()
    with chroma(options.vectors) as (recall, server):
        measured = asyncio.run(measure(recall, server, concurrencies, options))
    rows = [row(concurrency, measured) for concurrency in concurrencies]
    result = {
        "what": "recall side by side, SIMULATED embedder; see benchmarks/recall.py",
        "machine": machine,
        "vectors": options.vectors,
        "dimension": DIMENSION,
        "top_k": recall.top_k,
        "words_per_document": WORDS,
        "in_flight": options.in_flight,
        "rows": rows,
    }
    print(f"written to {save('recall', result)}")
    print_table(list(rows[0]), [[_median(value) for value in each.values()] for each in rows])


@dataclass(slots=True)
class Figures:
    """One concurrency's figures, one a round."""

    per_second: list[float] = field(default_factory=list)
    alone_p50_ms: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)
    """Processor time of this process a query: the stage, Chroma's client and what asks."""
    server_us: list[float] = field(default_factory=list)
    """Processor time of the server a query."""
    cores: list[float] = field(default_factory=list)
    """Processor time of both a second."""
    per_call: list[float] = field(default_factory=list)
    """Queries of a call."""


@dataclass(frozen=True)
class RandomEmbedder:
    """SIMULATED: each text is a direction of its own, drawn in advance."""

    directions: dict[str, Any]
    model_name: str = EMBEDDING.model_name
    dimension: int = DIMENSION

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self.directions[text] for text in texts])

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self.embed_queries(texts)


@contextmanager
def chroma(vectors: int) -> Iterator[tuple[RecallSettings, psutil.Process]]:
    """Run a server with a collection of so many vectors; yield how it is reached, and its process."""
    with tempfile.TemporaryDirectory(prefix="rerank-benchmark-") as name:
        before = set(psutil.Process().children())
        with local_chroma(Path(name) / "chroma") as running:
            [server] = set(psutil.Process().children()) - before
            recall = RecallSettings(host=running.host, port=running.port, collection=COLLECTION)
            print(f"filling a collection of {vectors:,} vectors ...", flush=True)
            fill(recall, COLLECTION, passages(vectors, WORDS))
            yield recall, server


async def measure(
    recall: RecallSettings, server: psutil.Process, concurrencies: Sequence[int], options: argparse.Namespace
) -> dict[int, Figures]:
    """Measure each concurrency in each round, on connections that are warm."""
    draw = np.random.default_rng(7)
    directions = draw.standard_normal((QUESTIONS, DIMENSION)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    embedder = RandomEmbedder({f"question {number}": vector for number, vector in enumerate(directions)})
    embedder.directions["warm-up"] = directions[0]
    measured = {concurrency: Figures() for concurrency in concurrencies}
    for number in range(options.rounds):
        turn = number % len(concurrencies)
        for concurrency in [*concurrencies[turn:], *concurrencies[:turn]]:
            settings = recall.model_copy(update={"concurrency": concurrency})
            calls: list[BatchReport] = []
            stage = BatchedRecall(embedder, partial(ChromaSearch, settings, embedder), settings, on_batch=calls.append)
            await stage.start()
            await ask(stage, settings, options.in_flight, 4 * options.in_flight)
            calls.clear()
            await _round(stage, settings, server, options, measured[concurrency])
            measured[concurrency].per_call.append(options.queries / max(1, len(calls) - options.alone))
            await stage.close()
        print(f"round {number + 1} of {options.rounds} done", flush=True)
    return measured


async def _round(
    stage: BatchedRecall,
    settings: RecallSettings,
    server: psutil.Process,
    options: argparse.Namespace,
    figures: Figures,
) -> None:
    client_s, server_s, begun_s = time.process_time(), _cpu_s(server), time.perf_counter()
    await ask(stage, settings, options.in_flight, options.queries)
    seconds = time.perf_counter() - begun_s
    client_s, server_s = time.process_time() - client_s, _cpu_s(server) - server_s
    figures.per_second.append(options.queries / seconds)
    figures.client_us.append(client_s / options.queries * 1e6)
    figures.server_us.append(server_s / options.queries * 1e6)
    figures.cores.append((client_s + server_s) / seconds)
    alone_s = await ask(stage, settings, 1, options.alone)
    figures.alone_p50_ms.append(percentile(alone_s, 0.5) * 1000)


async def ask(stage: BatchedRecall, settings: RecallSettings, in_flight: int, queries: int) -> list[float]:
    """Ask so many queries, each as soon as one of ``in_flight`` before it is answered; return the seconds of each."""
    numbers = iter(range(queries))
    seconds = []

    async def asker() -> None:
        for number in numbers:
            text = f"question {number % QUESTIONS}"
            begun_s = time.perf_counter()
            found = await stage.recall(Query(str(number), text, COLLECTION, settings.top_k, 3))
            assert len(found) == settings.top_k
            seconds.append(time.perf_counter() - begun_s)

    await asyncio.gather(*(asker() for _ in range(in_flight)))
    return seconds


def row(concurrency: int, measured: dict[int, Figures]) -> dict[str, Any]:
    """Return a concurrency's figures over the rounds, its throughput and latency as ratios to the baseline's too."""
    figures, base = measured[concurrency], measured[BASELINE]
    faster = [now / one for now, one in zip(figures.per_second, base.per_second, strict=True)]
    slower = [now / one for now, one in zip(figures.alone_p50_ms, base.alone_p50_ms, strict=True)]
    return {
        "concurrency": concurrency,
        "queries_per_second": summary(figures.per_second),
        "ratio": summary(faster),
        "alone_p50_ms": summary(figures.alone_p50_ms),
        "alone_ratio": summary(slower),
        "client_cpu_us": summary(figures.client_us),
        "server_cpu_us": summary(figures.server_us),
        "cores_used": summary(figures.cores),
        "queries_per_call": summary(figures.per_call),
    }


def _cpu_s(process: psutil.Process) -> float:
    """Return the processor time of a process and its children, in seconds."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _median(value: Any) -> Any:
    return significant(value["median"]) if isinstance(value, dict) else value


if __name__ == "__main__":
    main()
