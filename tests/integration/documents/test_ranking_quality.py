"""Does reranking earn its place? Measured on the sample corpus with the offline models, not assumed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from worker.documents.samples.corpus import Question, documents, questions
from worker.models.resolve import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.rerank.scorer import load_scorer
from worker.settings import Settings

pytestmark = pytest.mark.slow

TOP_K = 20


@dataclass(frozen=True, slots=True)
class Ranking:
    """One question's candidates by document id, best first."""

    question: Question
    recalled: Sequence[str]
    reranked: Sequence[str]


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], k: int = 3) -> float:
    """nDCG with linear gains: grade / log2(rank + 1), over the best possible (Järvelin and Kekäläinen, 2002)."""

    def dcg(grades: Sequence[int]) -> float:
        return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:k]))

    return dcg([relevant.get(each, 0) for each in ranked]) / dcg(sorted(relevant.values(), reverse=True))


def reciprocal_rank(ranked: Sequence[str], relevant: Mapping[str, int]) -> float:
    """One over the rank of the first relevant document of any grade; 0 if there is none."""
    return next((1 / rank for rank, each in enumerate(ranked, start=1) if each in relevant), 0.0)


@pytest.fixture(scope="module")
def rankings() -> list[Ranking]:
    settings = Settings(models="offline")
    embedding, cross_encoder = resolve("embedding", settings), resolve("cross-encoder", settings)
    embedder = SentenceEmbedder(embedding.path, embedding.name)
    scorer = load_scorer(cross_encoder, settings.rerank, settings.cache_dir)
    corpus = documents()
    vectors = embedder.embed_documents([document.text for document in corpus])

    def rank(question: Question) -> Ranking:
        cosine = vectors @ embedder.embed_queries([question.text])[0]
        recalled = np.argsort(-cosine, kind="stable")[:TOP_K]
        logits = scorer.score(scorer.encode(question.text, [corpus[index].text for index in recalled]))
        reranked = recalled[np.argsort(-np.array(logits), kind="stable")]
        return Ranking(question, [corpus[index].id for index in recalled], [corpus[index].id for index in reranked])

    return [rank(question) for question in questions() if question.relevant]


def test_reranking_improves_on_recall_order(rankings: list[Ranking], capsys: pytest.CaptureFixture[str]) -> None:
    before = np.array([ndcg(each.recalled, each.question.relevant) for each in rankings])
    after = np.array([ndcg(each.reranked, each.question.relevant) for each in rankings])
    mrr_before = np.mean([reciprocal_rank(each.recalled, each.question.relevant) for each in rankings])
    mrr_after = np.mean([reciprocal_rank(each.reranked, each.question.relevant) for each in rankings])
    with capsys.disabled():
        print(
            f"\nover {len(rankings)} questions: nDCG@3 recall {before.mean():.3f}, reranked {after.mean():.3f}; "
            f"MRR recall {mrr_before:.3f}, reranked {mrr_after:.3f}; "
            f"better on {np.sum(after > before + 1e-9)}, worse on {np.sum(after < before - 1e-9)}"
        )
    assert after.mean() > before.mean()
