"""Step 5: below which score is there no answer?

``python -m benchmarks.training.threshold FILE [--model NAME] [--at SCORE]`` takes held-out questions with judged
passages (see data.py for the format) and asks each twice: with all its passages, and without those that answer. Prints,
for the threshold that errs least and for one that refuses one answerable question in twenty, how many of either are
refused.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.training.data import UNLICENSED
from worker.models.packages import LATE_INTERACTION_NAME
from worker.models.resolve import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.rerank.scorer import load_scorer
from worker.settings import RerankSettings, Settings

ANSWERABLE_REFUSED = 0.05


def best_scores(file: Path, model_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the best rerank score of each question with its answers, and without them."""
    settings = Settings(models="offline", rerank=RerankSettings(model=model_name))
    model, embedding = resolve("cross-encoder", settings), resolve("embedding", settings)
    scorer = load_scorer(model, settings.rerank, settings.cache_dir)
    embedder = SentenceEmbedder(embedding.path, embedding.name)
    answerable, unanswerable = [], []
    for line in file.open(encoding="utf-8"):
        entry = json.loads(line)
        labels = np.array(entry["lab"], dtype=bool)
        if entry["src"] in UNLICENSED or not labels.any() or labels.all():
            continue
        cosines = embedder.embed_documents(entry["docs"]) @ embedder.embed_queries([entry["q"]])[0]
        [pairs] = scorer.encode_all([(entry["q"], entry["docs"])])
        scores = np.array(scorer.start(pairs)()) + model.prior_weight * cosines
        answerable.append(scores.max())
        unanswerable.append(scores[~labels].max())
    return np.array(answerable), np.array(unanswerable)


def report(threshold: float, answerable: np.ndarray, unanswerable: np.ndarray) -> str:
    return (
        f"{threshold:.3f} refuses {np.mean(answerable < threshold):.1%} of the answerable "
        f"and {np.mean(unanswerable < threshold):.1%} of the unanswerable"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default=LATE_INTERACTION_NAME)
    parser.add_argument("--at", type=float, help="a threshold to report besides")
    args = parser.parse_args()
    answerable, unanswerable = best_scores(args.file, args.model)
    tried = np.unique(np.concatenate([answerable, unanswerable]))
    errors = [np.mean(answerable < each) + np.mean(unanswerable >= each) for each in tried]
    print(f"{args.model}, {len(answerable)} questions, asked with and without their answers")
    print("least errors:", report(float(tried[int(np.argmin(errors))]), answerable, unanswerable))
    print("careful:     ", report(float(np.quantile(answerable, ANSWERABLE_REFUSED)), answerable, unanswerable))
    if args.at is not None:
        print("as asked:    ", report(args.at, answerable, unanswerable))
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    print("answerable   5/25/50/75/95 %:", np.quantile(answerable, quantiles).round(3).tolist())
    print("unanswerable 5/25/50/75/95 %:", np.quantile(unanswerable, quantiles).round(3).tolist())


if __name__ == "__main__":
    main()
