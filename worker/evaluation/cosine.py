"""The embedding model as a reranker: what a cross-encoder must beat where recall order is another's, e.g. BM25's.

Short: a reranker like the worker's own, and no part of what runs those.
"""

from collections.abc import Sequence

import numpy as np

from worker.batching.executor import SingleThreadExecutor
from worker.domain import Candidate, Context, Query
from worker.recall.embedder import Embedder
from worker.rerank.ranking import DocumentScore, ranked


class CosineReranker:
    """Implements ``Reranker`` by the cosine of question and document; each document is embedded anew."""

    def __init__(self, embedder: Embedder, executor: SingleThreadExecutor) -> None:
        """``executor``: the thread that loaded the embedder, on which it computes."""
        self._embedder = embedder
        self._executor = executor

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        """Order the candidates by their similarity to the query; see ``Reranker``."""
        similarities = await self._executor.run(lambda: self._similarities(query.text, candidates))
        return ranked(candidates, [DocumentScore(each) for each in similarities], prior_weight=0.0)

    def _similarities(self, text: str, candidates: Sequence[Candidate]) -> list[float]:
        [question] = self._embedder.embed_queries([text])
        documents = self._embedder.embed_documents([candidate.text for candidate in candidates])
        # In float64: cosines of near-equal texts differ in their last digits.
        return [float(each) for each in documents.astype(np.float64) @ question.astype(np.float64)]
