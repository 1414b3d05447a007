"""Pairs per second: the plain loop against the micro-batched reranker, same model, same pairs, interleaved.

``python -m benchmarks.scoring [--rounds N]`` writes ``benchmarks/results/scoring.json`` and prints it.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from worker.demo.corpus import documents, questions
from worker.local.offline_models import CROSS_ENCODER_NAME
from worker.microbatch import BatchReport
from worker.models import resolve
from worker.rerank.cross_encoder import CrossEncoderScorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings, Settings
from worker.types import Candidate, Query

CANDIDATES = 20
CONCURRENT_QUERIES = 16
RESULT = Path(__file__).parent / "results" / "scoring.json"


def workload() -> list[tuple[Query, list[Candidate]]]:
    """Each question with 20 passages of the corpus, every question with others."""
    corpus = documents()

    def candidates(number: int) -> list[Candidate]:
        chosen = [corpus[(7 * number + rank) % len(corpus)] for rank in range(CANDIDATES)]
        return [Candidate(each.id, each.text, rank, 0.0) for rank, each in enumerate(chosen, 1)]

    return [
        (Query(question.id, question.text, "benchmark", CANDIDATES, 3), candidates(number))
        for number, question in enumerate(questions()[:CONCURRENT_QUERIES])
    ]


def pairs_per_second(run: Callable[[], None], pairs: int) -> float:
    begun_s = time.perf_counter()
    run()
    return pairs / (time.perf_counter() - begun_s)


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    settings = Settings(models="offline", rerank=RerankSettings(model=CROSS_ENCODER_NAME))
    model = resolve("cross-encoder", settings)
    scorer = CrossEncoderScorer(model.path, model.name, settings.rerank)
    plain = CrossEncoder(str(model.path), device="cpu", max_length=settings.rerank.max_length)
    queries = workload()
    pairs = sum(len(candidates) for _, candidates in queries)
    reports: list[BatchReport] = []

    def per_query() -> None:
        for query, candidates in queries:
            plain.predict([(query.text, each.text) for each in candidates], show_progress_bar=False)

    async def concurrently() -> None:
        reranker = MicroBatchedReranker(scorer, settings.rerank, prior_weight=0, on_batch=reports.append)
        await asyncio.gather(*(reranker.rerank(query, candidates) for query, candidates in queries))
        await reranker.close()

    def micro_batched() -> None:
        asyncio.run(concurrently())

    per_query()
    micro_batched()
    reports.clear()
    plain_rates, ours_rates = [], []
    for _ in range(rounds):
        plain_rates.append(pairs_per_second(per_query, pairs))
        ours_rates.append(pairs_per_second(micro_batched, pairs))
    ratios = [ours / theirs for ours, theirs in zip(ours_rates, plain_rates, strict=True)]
    result = {
        "what": "pairs per second, fp32, CPU",
        "model": model.name,
        "pairs": pairs,
        "rounds": rounds,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}",
        "predict_per_query": {
            "median": statistics.median(plain_rates),
            "min": min(plain_rates),
            "max": max(plain_rates),
        },
        "micro_batched": {"median": statistics.median(ours_rates), "min": min(ours_rates), "max": max(ours_rates)},
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "padding_share": 1 - sum(each.cost for each in reports) / sum(each.padded_cost for each in reports),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
