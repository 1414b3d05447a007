"""Scoring and timing, with a model of random weights and an embedder that is honest about not being one."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.http import Reply, Request, http_server
from tests.fakes.model import WORDS, save_model
from tests.unit.conftest import FakeHashEmbedder
from worker.batching.executor import SingleThreadExecutor
from worker.domain import Candidate, Query
from worker.evaluation.cosine import CosineReranker
from worker.evaluation.questions import Question
from worker.evaluation.reranking import Subject, score
from worker.models.resolve import ResolvedModel
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings, Settings

QUESTIONS = [Question("q1", "capital france"), Question("q2", "debezium permissions"), Question("lonely", "paris")]
TEXTS = [" ".join(WORDS[start : start + 3]) for start in range(6)]
FOUND = {
    each.id: [Candidate(text, text, rank, 0.0) for rank, text in enumerate(texts, 1)]
    for each, texts in zip(QUESTIONS, (TEXTS, TEXTS[:2], []), strict=True)
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_model(tmp_path_factory.mktemp("models") / "tiny", outputs=1)
    settings = Settings(rerank=RerankSettings(device="cpu", max_length=64))
    return Subject(settings, ResolvedModel("cross-encoder", "tiny", folder, "folder"), " (torch)")


def test_every_candidate_has_its_score_in_recall_order_and_queries_are_timed(subject: Subject) -> None:
    told: list[tuple[str, int, int]] = []
    scored = score(subject, QUESTIONS, FOUND, top_ks=[2, 4], watch=lambda *each: told.append(each))
    assert scored.name == "tiny (torch)"
    assert isinstance(subject.model, ResolvedModel)
    alone = CrossEncoderScorer(Path(subject.model.path), "tiny", subject.settings.rerank)
    for question, count in zip(QUESTIONS[:2], (4, 2), strict=True):
        expected = alone.score(alone.encode(question.text, TEXTS[:count]))
        assert scored.scores[question.id] == pytest.approx(expected, abs=1e-4)
    # Of a question without candidates there is nothing to score.
    assert scored.scores.keys() == {"q1", "q2"}
    assert scored.pairs == {"q1": 4, "q2": 2}
    assert {top_k: len(times) for top_k, times in scored.seconds.items()} == {2: 2, 4: 2}
    assert all(time > 0 for times in scored.seconds.values() for time in times)
    assert ("reranking with tiny (torch)", 2, 2) in told
    assert told[-1] == ("timing fewer candidates", 2, 2)


def test_windows_of_long_documents_are_pairs(subject: Subject) -> None:
    settings = subject.settings.model_copy(
        update={"rerank": subject.settings.rerank.model_copy(update={"long_documents": "max", "max_length": 16})}
    )
    long = {"q1": [Candidate("long", "kafka consumer groups " * 12, 1, 0.0)]}
    scored = score(replace(subject, settings=settings), QUESTIONS[:1], long, top_ks=[1], watch=lambda *_: None)
    assert scored.pairs["q1"] > 1


def test_cosine_orders_by_the_embeddings_alone() -> None:
    async def ranked(texts: Sequence[str]) -> list[tuple[str, float | None]]:
        executor = SingleThreadExecutor("embed")
        candidates = [Candidate(text, text, rank, 0.0) for rank, text in enumerate(texts, 1)]
        try:
            ranking = await CosineReranker(FakeHashEmbedder(), executor).rerank(
                Query("q", "paris", "", top_k=3, top_n=1), candidates
            )
        finally:
            await executor.aclose(1)
        return [(context.candidate.document_id, context.rerank_score) for context in ranking]

    first, *others = asyncio.run(ranked(["kafka", "paris", "mysql"]))
    assert first == ("paris", pytest.approx(1.0))
    assert all(score is not None and score < 0.99 for _, score in others)


def test_an_endpoint_scores_what_it_is_sent() -> None:
    def by_length(request: Request) -> Reply:
        documents = json.loads(request.body)["documents"]
        results = [{"index": place, "relevance_score": len(text)} for place, text in enumerate(documents)]
        return Reply(200, json.dumps({"results": results}).encode())

    with http_server(by_length) as address:
        rerank = RerankSettings(model="theirs", remote_url=f"{address}/v2/rerank")
        remote = Subject(Settings(rerank=rerank), f"{address}/v2/rerank", "")
        scored = score(remote, QUESTIONS, FOUND, top_ks=[2], watch=lambda *_: None)
    assert scored.name == "theirs"
    assert scored.scores == {each: [float(len(text)) for text in TEXTS[:2]] for each in ("q1", "q2")}
