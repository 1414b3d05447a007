"""Does reranking earn its place? Measured on the sample corpus with the offline models, not assumed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from worker.demo.corpus import Question, documents, questions
from worker.models import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.rerank.torch_scorer import TorchScorer
from worker.settings import Settings

pytestmark = pytest.mark.slow

TOP_K = 20


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], k: int = 3) -> float:
    """nDCG with linear gains: grade / log2(rank + 1), over the best possible (Järvelin and Kekäläinen, 2002)."""

    def dcg(grades: Sequence[int]) -> float:
        return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:k]))

    return dcg([relevant.get(each, 0) for each in ranked]) / dcg(sorted(relevant.values(), reverse=True))


def test_reranking_improves_on_recall_order(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(models="offline")
    embedding, cross_encoder = resolve("embedding", settings), resolve("cross-encoder", settings)
    embedder = SentenceEmbedder(embedding.path, embedding.name)
    scorer = TorchScorer(cross_encoder.path, cross_encoder.name, settings.rerank)
    corpus = documents()
    vectors = embedder.embed_documents([document.text for document in corpus])

    def rankings(question: Question) -> tuple[list[str], list[str]]:
        cosine = vectors @ embedder.embed_queries([question.text])[0]
        recalled = np.argsort(-cosine, kind="stable")[:TOP_K]
        logits = scorer.score(scorer.encode(question.text, [corpus[index].text for index in recalled]))
        scores = np.array(logits) + cross_encoder.prior_weight * cosine[recalled]
        reranked = recalled[np.argsort(-scores, kind="stable")]
        return [corpus[index].id for index in recalled], [corpus[index].id for index in reranked]

    before, after = [], []
    for question in questions():
        if question.relevant:
            recalled, reranked = rankings(question)
            before.append(ndcg(recalled, question.relevant))
            after.append(ndcg(reranked, question.relevant))
            if question.text == "What permissions does Debezium need on MySQL?":
                assert reranked[0] == "debezium-mysql-permissions"
                assert "debezium-mysql-config" in recalled[:3]
                assert "debezium-mysql-config" not in reranked[:3]
    with capsys.disabled():
        print(f"\nnDCG@3 over {len(before)} questions: recall {np.mean(before):.3f}, reranked {np.mean(after):.3f}")
    assert np.mean(after) > np.mean(before)
