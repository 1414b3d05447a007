"""What the settings of the micro-batches do to throughput and latency, one at a time, the others at their defaults.

``python -m benchmarks.knobs`` writes ``results/knobs.json`` and ``results/knobs.svg``; with ``--redraw`` the picture
alone, from the figures that are there. The load is fixed: so many clients, each asking its next query of 20 candidates
as soon as it has its last answer.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from joblib import cpu_count
from transformers import AutoTokenizer

from benchmarks import machine
from benchmarks.picture import knobs_svg
from benchmarks.summary import spread
from benchmarks.workload import Asked, Workload, articles
from worker.batching.batcher import BatchReport
from worker.batching.executor import compute_executor
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.models.resolve import ResolvedModel, resolve
from worker.rerank.backends.device import CPU_BATCH_PAIRS, CPU_BATCH_TOKENS
from worker.rerank.scorer import load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import DEFAULT_CACHE_DIR, RerankSettings, Settings

RESULTS = Path(__file__).parent / "results"
CLIENTS = 6
QUERIES = 12
DEFAULTS = RerankSettings()


def knobs(cores: int) -> dict[str, list[float]]:
    """Return the values of each knob, its default among them."""
    return {
        "batch_tokens": [512, 1_024, CPU_BATCH_TOKENS, 4_096, 16_384],
        "batch_pairs": [8, 32, CPU_BATCH_PAIRS, 128],
        "max_wait_ms": [0, DEFAULTS.max_wait_ms, 20, 100],
        "threads": sorted({1, max(1, cores // 2), cores}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--mix", default="medium", choices=("short", "medium", "long"))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: draw the figures in the folder again")
    asked = parser.parse_args()
    result = json.loads((asked.out / "knobs.json").read_text(encoding="utf-8")) if asked.redraw else _measured(asked)
    (asked.out / "knobs.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (asked.out / "knobs.svg").write_text(picture(result), encoding="utf-8")
    for each in result["points"]:
        rate, latency = each["pairs_per_s"], each["latency_p50_ms"]
        print(f"{each['knob']:>12} {each['value']:>8g}: {rate['median']:7.1f} pairs/s, {latency['median']:8.1f} ms")


def picture(result: dict[str, Any]) -> str:
    """Return the result as SVG."""
    cores = result["machine"]["cores"]
    defaults = {
        "batch_tokens": CPU_BATCH_TOKENS,
        "batch_pairs": CPU_BATCH_PAIRS,
        "max_wait_ms": DEFAULTS.max_wait_ms,
        "threads": cores,
    }
    return knobs_svg(result, defaults)


def _measured(asked: argparse.Namespace) -> dict[str, Any]:
    model = resolve("cross-encoder", Settings(models="offline", rerank=RerankSettings(model=CROSS_ENCODER_NAME)))
    tokenizer = AutoTokenizer.from_pretrained(model.path, local_files_only=True)
    found, corpus = articles()
    workload = Workload(found, tokenizer, DEFAULTS.max_length, scale=1)
    facts = machine.facts("cpu", cpu_count())
    tried = [(knob, value) for knob, values in knobs(cpu_count()).items() for value in values]
    points: dict[tuple[str, float], list[dict[str, float]]] = {each: [] for each in tried}
    for number in range(asked.rounds):
        queries = _queries(workload, asked.mix, number)
        # Another order each round: what the machine does meanwhile must not fall on one knob alone.
        for knob, value in random.Random(number).sample(tried, len(tried)):
            points[knob, value].append(_point(model, {knob: value}, queries, asked.clients))
        print(f"round {number + 1} of {asked.rounds} done", flush=True)
    return {
        "what": f"{asked.clients} clients, each with one query of 20 candidates at a time",
        "mix": asked.mix,
        "model": model.name,
        "corpus": corpus,
        "rounds": asked.rounds,
        "machine": facts,
        "points": [
            {"knob": knob, "value": value, **{key: spread([each[key] for each in rounds]) for key in rounds[0]}}
            for (knob, value), rounds in points.items()
        ],
    }


def _queries(workload: Workload, mix: str, number: int) -> list[Asked]:
    found: list[Asked] = []
    while len(found) < QUERIES:
        # Numbers apart from one another: each round has queries of its own.
        found += workload.round(1_000 * number + len(found), [mix])[0].queries
    return found[:QUERIES]


def _point(model: ResolvedModel, changes: dict[str, float], queries: Sequence[Asked], clients: int) -> dict[str, float]:
    # Loaded anew: threads are set then, and nothing remembers a query of the point before.
    settings = RerankSettings.model_validate({"device": "cpu", **changes})
    reports: list[BatchReport] = []
    latencies_s: list[float] = []

    async def client(reranker: MicroBatchedReranker, mine: Sequence[Asked]) -> None:
        for asked in mine:
            begun_s = time.perf_counter()
            await reranker.rerank(asked.query, asked.candidates)
            latencies_s.append(time.perf_counter() - begun_s)

    async def all_clients() -> float:
        async with compute_executor() as executor:
            scorer = await executor.run(partial(load_scorer, model, settings, DEFAULT_CACHE_DIR))
            reranker = MicroBatchedReranker(
                scorer, settings, prior_weight=0, on_batch=reports.append, executor=executor
            )
            begun_s = time.perf_counter()
            await asyncio.gather(*(client(reranker, queries[number::clients]) for number in range(clients)))
            seconds = time.perf_counter() - begun_s
            await reranker.close()
        return seconds

    seconds = asyncio.run(all_clients())
    return {
        "pairs_per_s": sum(len(each.candidates) for each in queries) / seconds,
        "latency_p50_ms": 1000 * statistics.median(latencies_s),
        "latency_max_ms": 1000 * max(latencies_s),
        "pairs_per_batch": statistics.mean(each.items for each in reports),
        "padding_share": 1 - sum(each.cost for each in reports) / sum(each.padded_cost for each in reports),
    }


if __name__ == "__main__":
    main()
