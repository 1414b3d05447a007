"""Step 3: rank a graded set with the baselines and with cross-encoders, with intervals.

``python -m benchmarks.training.evaluate SET [MODEL ...] [--json FILE]``. SET is a folder with ``candidates.jsonl.gz``
(``{"qid", "query", "passages": [{"id", "text"}]}`` a line, in BM25 order) and ``qrels.txt`` (TREC format); MODEL a
folder that ``CrossEncoder`` loads. Prints nDCG@10, its difference to the cosine and that difference's 95 % interval by
the paired bootstrap over queries.
"""

import argparse
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from benchmarks.training.teacher import Teacher, judge
from worker.models.packages import embedding_folder

CUT = 10
MAX_TOKENS = 256
PRIORS = (5.0, 12.5, 25.0)
RESAMPLES = 10_000

Figures = NDArray[np.float64]
Scores = list[Figures]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A query, its candidates in BM25 order, and the grades of all that were judged for it."""

    query: str
    ids: list[str]
    texts: list[str]
    grades: dict[str, int]


def read(folder: Path) -> list[Ranked]:
    """Read a graded set; queries without a relevant passage are left out."""
    grades: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.txt").read_text().splitlines():
        query, _, passage, grade = line.split()
        grades.setdefault(query, {})[passage] = int(grade)
    queries = []
    with gzip.open(folder / "candidates.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            passages = entry["passages"]
            judged = grades.get(str(entry["qid"]), {})
            if any(judged.values()):
                queries.append(
                    Ranked(
                        entry["query"], [each["id"] for each in passages], [each["text"] for each in passages], judged
                    )
                )
    return queries


def ndcg(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    """nDCG@10, linear gains, over all judged passages, as trec_eval's ``ndcg_cut`` (Järvelin and Kekäläinen 2002)."""

    def dcg(gains: Sequence[int]) -> float:
        return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:CUT]))

    return dcg([grades.get(each, 0) for each in ranked]) / dcg(sorted(grades.values(), reverse=True))


def quality(queries: Sequence[Ranked], scores: Scores) -> Figures:
    """Return nDCG@10 per query; ties keep BM25 order."""
    return np.array(
        [
            ndcg([query.ids[place] for place in np.argsort(-mine, kind="stable")], query.grades)
            for query, mine in zip(queries, scores, strict=True)
        ]
    )


def interval(difference: Figures) -> tuple[float, float]:
    """Return the 95 % interval of a mean of paired differences (percentile bootstrap over queries)."""
    chosen = np.random.default_rng(0).integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.quantile(difference[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def baselines(queries: Sequence[Ranked]) -> dict[str, Scores]:
    """Score by what needs no training: BM25's order and the packaged bi-encoder's similarities."""
    teacher = Teacher(embedding_folder())
    asked = teacher.encode([query.query for query in queries], max_tokens=MAX_TOKENS)
    rows = []
    for place, query in enumerate(queries):
        encoded = teacher.encode(query.texts, max_tokens=MAX_TOKENS)
        rows.append(np.array(judge(asked.means[place], asked.tokens[place], encoded.means, encoded.tokens)))
    return {
        "BM25": [-np.arange(len(query.ids), dtype=float) for query in queries],
        "cosine": [row[:, 0] for row in rows],
        "MaxSim": [row[:, 1] for row in rows],
        "MaxSim + cosine": [standard(row[:, 1]) + standard(row[:, 0]) for row in rows],
    }


def cross_encoder(folder: Path, queries: Sequence[Ranked]) -> Scores:
    """Score every pair with plain sentence-transformers in fp32."""
    model = CrossEncoder(str(folder), device="cpu", max_length=MAX_TOKENS, local_files_only=True)
    return [
        model.predict(
            [(query.query, text) for text in query.texts], activation_fn=torch.nn.Identity(), show_progress_bar=False
        ).astype(float)
        for query in queries
    ]


def standard(values: Figures) -> Figures:
    scaled: Figures = (values - values.mean()) / (values.std() + 1e-9)
    return scaled


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("set", type=Path)
    parser.add_argument("model", type=Path, nargs="*")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    queries = read(args.set)
    ranked = baselines(queries)
    for folder in args.model:
        alone = cross_encoder(folder, queries)
        ranked[f"{folder}"] = alone
        for prior in PRIORS:
            ranked[f"{folder} + {prior:g} cosine"] = [
                mine + prior * cosine for mine, cosine in zip(alone, ranked["cosine"], strict=True)
            ]
    reference = quality(queries, ranked["cosine"])
    rows = []
    for name, scores in ranked.items():
        measured = quality(queries, scores)
        low, high = interval(measured - reference)
        rows.append(
            {"name": name, "ndcg@10": measured.mean(), "to_cosine": (measured - reference).mean(), "ci": [low, high]}
        )
        print(
            f"{name:60} {measured.mean():.4f}  {(measured - reference).mean():+.4f} [{low:+.3f}, {high:+.3f}]",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"queries": len(queries), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
