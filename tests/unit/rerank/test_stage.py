"""Ordering, ties, the prior and errors of the rerank stage, with a scorer that is told its scores."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from threading import Event
from typing import ClassVar

import pytest
import torch

from tests.patience import HANG_S
from worker.batching.batcher import BatchReport
from worker.domain import Candidate, Query
from worker.errors import ExpiredError, FatalError, TransientError
from worker.rerank.backends.device import Batches
from worker.rerank.pairs.tokenizer import EncodedPair
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings


@dataclass
class FakeScorer:
    """A document's text is its score, several scores are its windows; one token per character."""

    model_name: str = "fake"
    batches: ClassVar = Batches(padded=True, tokens=16_384)
    sizes: list[int] = field(default_factory=list)
    located: list[str] = field(default_factory=list)
    error: Exception | None = None
    poison: float | None = None
    fits: int | None = None
    """Pairs there is memory for."""
    stuck: str = ""
    """Where it hangs until ``release``: encode or score."""
    begun: Event = field(default_factory=Event)
    release: Event = field(default_factory=Event)

    def _maybe_stuck(self, where: str) -> None:
        if self.stuck == where:
            self.begun.set()
            assert self.release.wait(timeout=HANG_S)

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        self._maybe_stuck("encode")
        return [
            EncodedPair([float(score)] * len(score), [0] * len(score), number, "…" in text, window)  # type: ignore[list-item]  # the score rides along
            for number, text in enumerate(documents)
            for score, window in self._windows(text)
        ]

    def _windows(self, text: str) -> Iterator[tuple[str, range | None]]:
        scores = text.strip("…").split()
        for number, score in enumerate(scores):
            yield score, range(2 * number, 2 * number + 1) if len(scores) > 1 else None

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        self.located += documents
        return [(window.start, window.stop) for window in windows]

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        self.sizes.append(len(pairs))
        self._maybe_stuck("score")
        if self.error:
            raise self.error
        if self.fits is not None and len(pairs) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.poison in [pair.input_ids[0] for pair in pairs]:
            raise ValueError("poison")
        return [float(pair.input_ids[0]) for pair in pairs]


NOW_S = 1_000.0


@asynccontextmanager
async def a_reranker(
    scorer: FakeScorer, prior_weight: float = 0.0, **settings: object
) -> AsyncIterator[tuple[MicroBatchedReranker, list[BatchReport]]]:
    reports: list[BatchReport] = []
    reranker = MicroBatchedReranker(
        scorer,
        RerankSettings.model_validate(settings),
        prior_weight=prior_weight,
        on_batch=reports.append,
        unix_time_s=lambda: NOW_S,
    )
    try:
        yield reranker, reports
    finally:
        await reranker.close()


def candidates(*scores: str, similarity: float | None = None) -> list[Candidate]:
    return [Candidate(f"d{rank}", text, rank, 0.5, similarity) for rank, text in enumerate(scores, 1)]


QUERY = Query("q", "?", "docs", top_k=20, top_n=3)


async def test_the_best_logit_comes_first_and_recall_ranks_stay() -> None:
    async with a_reranker(FakeScorer()) as (reranker, _):
        ranking = await reranker.rerank(QUERY, candidates("1", "3", "2"))
    assert [context.candidate.document_id for context in ranking] == ["d2", "d3", "d1"]
    assert [context.rerank_rank for context in ranking] == [1, 2, 3]
    assert [context.candidate.recall_rank for context in ranking] == [2, 3, 1]
    assert [context.rerank_score for context in ranking] == [3.0, 2.0, 1.0]


async def test_ties_stay_in_recall_order() -> None:
    async with a_reranker(FakeScorer()) as (reranker, _):
        ranking = await reranker.rerank(QUERY, candidates("1", "2", "1", "2"))
    assert [context.candidate.document_id for context in ranking] == ["d2", "d4", "d1", "d3"]


async def test_the_prior_adds_the_similarity_of_recall_to_the_logit() -> None:
    near = Candidate("near", "1", 1, 0.1, similarity=0.9)
    far = Candidate("far", "2", 2, 0.9, similarity=0.1)
    async with a_reranker(FakeScorer(), prior_weight=10) as (reranker, _):
        ranking = await reranker.rerank(QUERY, [near, far])
    assert [(context.candidate.document_id, context.logit) for context in ranking] == [("near", 1.0), ("far", 2.0)]
    assert [context.rerank_score for context in ranking] == pytest.approx([10.0, 3.0])


async def test_a_collection_that_hides_the_cosine_has_no_prior() -> None:
    async with a_reranker(FakeScorer(), prior_weight=10) as (reranker, _):
        ranking = await reranker.rerank(QUERY, candidates("1", "2"))
    assert [context.rerank_score for context in ranking] == [2.0, 1.0]


async def test_pairs_of_concurrent_queries_share_batches() -> None:
    scorer = FakeScorer()
    async with a_reranker(scorer, batch_pairs=64, max_wait_ms=50) as (reranker, reports):
        each = [candidates(*(str(3 * number + rank) for rank in range(3))) for number in range(8)]
        await asyncio.gather(*(reranker.rerank(QUERY, mine) for mine in each))
    assert sum(scorer.sizes) == 24
    assert len(scorer.sizes) < 8
    assert sum(report.items for report in reports) == 24


async def test_a_text_recalled_twice_is_scored_once() -> None:
    scorer = FakeScorer()
    async with a_reranker(scorer) as (reranker, reports):
        ranking = await reranker.rerank(QUERY, candidates("1", "2", "1", "2", "1"))
    assert scorer.sizes == [2]
    assert [context.logit for context in ranking] == [2.0, 2.0, 1.0, 1.0, 1.0]
    assert [report.items for report in reports] == [5]


async def test_a_question_asked_twice_at_once_is_scored_once() -> None:
    scorer = FakeScorer()
    async with a_reranker(scorer, max_wait_ms=50) as (reranker, _):
        asked = [reranker.rerank(QUERY, candidates("1", "3", "2")) for _ in range(2)]
        first, second = await asyncio.gather(*asked)
    assert scorer.sizes == [3]
    assert first == second


@pytest.mark.parametrize(("long_documents", "scores"), [("max", [5.0, 4.0, 3.0]), ("mean", [4.0, 3.0, 2.5])])
async def test_a_document_of_several_windows_is_judged_as_a_whole(long_documents: str, scores: list[float]) -> None:
    scorer = FakeScorer()
    async with a_reranker(scorer, long_documents=long_documents) as (reranker, reports):
        ranking = await reranker.rerank(QUERY, candidates("4", "1 5 3 3…", "2 3"))
    assert [context.logit for context in ranking] == scores
    assert {(c.candidate.document_id, c.windows, c.truncated) for c in ranking} == {
        ("d1", 1, False),
        ("d2", 4, True),
        ("d3", 2, False),
    }
    assert sum(report.items for report in reports) == 7


@pytest.mark.parametrize("long_documents", ["max", "mean"])
async def test_of_a_long_document_that_is_kept_the_best_window_is_told(long_documents: str) -> None:
    scorer = FakeScorer()
    async with a_reranker(scorer, long_documents=long_documents) as (reranker, _):
        ranking = await reranker.rerank(replace(QUERY, top_n=2), candidates("9", "1 8 3 8", "2 3"))
    assert [(c.candidate.document_id, c.window) for c in ranking] == [("d1", None), ("d2", (2, 3)), ("d3", None)]
    assert ranking[1].judged_text == "8"
    assert scorer.located == ["1 8 3 8"], "nobody asks for that of a document that is not kept"


async def test_a_scorer_that_breaks_is_a_transient_error_that_names_the_model() -> None:
    async with a_reranker(FakeScorer(error=RuntimeError("out of memory"))) as (reranker, _):
        with pytest.raises(TransientError, match="fake failed: RuntimeError: out of memory"):
            await reranker.rerank(QUERY, candidates("1"))


async def test_a_pair_that_breaks_the_scorer_fails_its_own_query_alone() -> None:
    async with a_reranker(FakeScorer(poison=7), max_wait_ms=50) as (reranker, _):
        good, bad = await asyncio.gather(
            reranker.rerank(QUERY, candidates("1", "2")),
            reranker.rerank(QUERY, candidates("3", "7")),
            return_exceptions=True,
        )
    assert [context.logit for context in good] == [2.0, 1.0]  # type: ignore[union-attr]  # an error has no logits
    assert isinstance(bad, TransientError)


async def test_a_pair_without_a_number_fails_its_own_query_alone_and_nothing_is_scored_twice() -> None:
    scorer = FakeScorer()
    async with a_reranker(scorer, max_wait_ms=50) as (reranker, _):
        good, bad = await asyncio.gather(
            reranker.rerank(QUERY, candidates("1", "2")),
            reranker.rerank(QUERY, candidates("3", "nan")),
            return_exceptions=True,
        )
    assert [context.logit for context in good] == [2.0, 1.0]  # type: ignore[union-attr]  # an error has no logits
    assert isinstance(bad, TransientError)
    assert "not a number" in str(bad)
    assert scorer.sizes == [4]


async def test_a_batch_too_large_for_the_memory_is_scored_in_parts() -> None:
    scorer = FakeScorer(fits=2)
    async with a_reranker(scorer) as (reranker, _):
        ranking = await reranker.rerank(QUERY, candidates("1", "5", "3", "4", "2"))
        assert [context.rerank_score for context in ranking] == [5.0, 4.0, 3.0, 2.0, 1.0]
        assert scorer.sizes[0] == 5
        await reranker.rerank(QUERY, candidates("1", "5", "3", "4", "2"))
    assert scorer.sizes[-3:] == [2, 2, 1]


async def test_a_pair_too_large_for_the_memory_by_itself_is_transient() -> None:
    async with a_reranker(FakeScorer(fits=0)) as (reranker, _):
        with pytest.raises(TransientError, match="out of memory"):
            await reranker.rerank(QUERY, candidates("1", "2"))


@pytest.mark.parametrize("stuck", ["encode", "score"])
async def test_a_query_whose_deadline_passes_is_not_waited_for_nor_scored(stuck: str) -> None:
    scorer = FakeScorer(stuck=stuck)
    async with a_reranker(scorer) as (reranker, _):
        running = asyncio.create_task(reranker.rerank(QUERY, candidates("1")))
        await asyncio.to_thread(scorer.begun.wait, 10)
        with pytest.raises(ExpiredError):
            await reranker.rerank(replace(QUERY, deadline_s=NOW_S + 0.05), candidates("7", "8"))
        scorer.release.set()
        assert len(await running) == 1
    assert sum(scorer.sizes) == 1


async def test_a_query_without_candidates_has_an_empty_ranking() -> None:
    async with a_reranker(FakeScorer()) as (reranker, _):
        assert await reranker.rerank(QUERY, []) == []


async def test_a_lost_device_stays_fatal() -> None:
    async with a_reranker(FakeScorer(error=FatalError("the device is lost"))) as (reranker, _):
        with pytest.raises(FatalError, match="the device is lost"):
            await reranker.rerank(QUERY, candidates("1"))


async def test_a_stage_whose_batcher_died_is_fatal_rather_than_degraded_for_ever() -> None:
    def broken_observer(_: BatchReport) -> None:
        raise RuntimeError("observer")

    reranker = MicroBatchedReranker(FakeScorer(), RerankSettings(), prior_weight=0, on_batch=broken_observer)
    await reranker.rerank(QUERY, candidates("1"))
    with pytest.raises(FatalError, match="the rerank stage has ended"):
        await reranker.rerank(QUERY, candidates("1"))
    await reranker.close()
