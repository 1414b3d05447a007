"""The simulated parts fit the real stage: a benchmark that breaks only when it is run is broken for months."""

from benchmarks.gpu.subject import Texts
from benchmarks.simulated_device import RERANK, TOKENS, KnownRecall, simulated_scorer
from benchmarks.simulated_worker import FixedRecall, SimulatedAccelerator
from worker.batching.batcher import BatchReport
from worker.domain import Query
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings


async def test_the_real_stage_ranks_simulated_candidates_by_simulated_scores() -> None:
    query = Query("q", "how fast?", "docs", top_k=5, top_n=3)
    reranker = MicroBatchedReranker(
        SimulatedAccelerator(hold_s=0), RerankSettings(), prior_weight=0, on_batch=lambda _: None
    )
    try:
        ranking = await reranker.rerank(query, await FixedRecall().recall(query))
    finally:
        await reranker.close()
    assert [context.candidate.document_id for context in ranking] == ["d5", "d4", "d3", "d2", "d1"]


async def test_the_real_scorer_ranks_on_a_simulated_device_whose_pairs_have_the_tokens_it_says() -> None:
    reports: list[BatchReport] = []
    [asked] = Texts().queries(1, [TOKENS])
    reranker = MicroBatchedReranker(
        simulated_scorer(pairs_per_s=1_000_000), RERANK, prior_weight=0, on_batch=reports.append
    )
    try:
        ranking = await reranker.rerank(asked.query, await KnownRecall([asked]).recall(asked.query))
    finally:
        await reranker.close()
    assert {context.candidate.document_id for context in ranking} == {each.document_id for each in asked.candidates}
    assert sum(report.cost for report in reports) == TOKENS * len(asked.candidates)
