"""Quotations by the real offline model: the sentence that answers, and none that only shares its words."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from worker.answer.extractive import LOGIT_MARGIN, ExtractiveAnswerer
from worker.domain import Candidate, Context, Query
from worker.models.resolve import resolve
from worker.rerank.scorer import load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings, Settings

pytestmark = pytest.mark.slow

QUESTION = "How is a sourdough starter fed?"
ANSWERS = "A sourdough starter is fed with equal parts of flour and water once a day."
ANSWERS_TOO = "To feed a sourdough starter, stir flour and water into it every day."
PADDING = "Nested notes: the cat is fed at six."


@pytest.fixture
async def answerer(cache_dir: Path) -> AsyncIterator[ExtractiveAnswerer]:
    resolved = resolve("cross-encoder", Settings(models="offline"))
    scorer = load_scorer(resolved, RerankSettings(), cache_dir)
    reranker = MicroBatchedReranker(scorer, RerankSettings(), prior_weight=0.0, on_batch=lambda _report: None)
    yield ExtractiveAnswerer(reranker, cross_encoder=resolved.name, sentences=2, margin=LOGIT_MARGIN)
    await reranker.close()


async def quoted(answerer: ExtractiveAnswerer, *texts: str) -> str:
    contexts = [Context(Candidate(f"d{n}", text, n, 0.1), n, 1.0, 1.0) for n, text in enumerate(texts, 1)]
    return (await answerer.answer(Query("q", QUESTION, "docs", top_k=20, top_n=3), contexts)).text


async def test_a_sentence_that_only_shares_its_words_is_not_quoted(answerer: ExtractiveAnswerer) -> None:
    assert await quoted(answerer, f"{ANSWERS} It doubles in four hours.", PADDING) == f"{ANSWERS} [1]"


async def test_a_second_one_that_answers_too_is(answerer: ExtractiveAnswerer) -> None:
    assert await quoted(answerer, ANSWERS, PADDING, ANSWERS_TOO) == f"{ANSWERS} [1] {ANSWERS_TOO} [3]"
