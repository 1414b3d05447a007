"""The simulated parts fit the real stage: a benchmark that breaks only when it is run is broken for months."""

from benchmarks.simulated_worker import FixedRecall, SimulatedAccelerator
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
