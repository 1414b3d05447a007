"""The rerank stage: pairs of many queries scored together, each query ordered by its own scores."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from worker.errors import TransientError, WorkerError
from worker.microbatch import BatchReport, MicroBatcher
from worker.rerank.base import EncodedPair, Scorer
from worker.settings import RerankSettings
from worker.types import Candidate, Context, Query

CLOSE_TIMEOUT_S = 30.0


class MicroBatchedReranker:
    """Implements ``Reranker``. Built and used on the loop's thread; ``close`` once."""

    def __init__(
        self,
        scorer: Scorer,
        settings: RerankSettings,
        *,
        prior_weight: float,
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        self._scorer = scorer
        self._prior_weight = prior_weight
        # A tokenizer must not be used by two threads at once ("Already borrowed", huggingface/transformers#47085),
        # and a thread of its own tokenises the next queries while the present ones are scored.
        self._tokenizing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rerank-tokenize")
        self._batcher: MicroBatcher[EncodedPair, float] = MicroBatcher(
            scorer.score,
            name="rerank-score",
            max_items=settings.batch_pairs,
            max_cost=settings.batch_tokens,
            max_wait_s=settings.max_wait_ms / 1000,
            cost=lambda pair: pair.tokens,
            on_batch=on_batch,
        )

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        """Score and order the candidates; see ``Reranker``."""
        texts = [candidate.text for candidate in candidates]
        loop = asyncio.get_running_loop()
        try:
            pairs = await loop.run_in_executor(self._tokenizing, self._scorer.encode, query.text, texts)
            logits = await self._batcher.submit(pairs)
        except WorkerError:
            raise
        except Exception as error:
            raise TransientError(f"{self._scorer.model_name} failed: {type(error).__name__}: {error}") from error
        scored = sorted(
            zip(candidates, logits, map(self._with_prior, candidates, logits), strict=True),
            key=lambda each: (-each[2], each[0].recall_rank),
        )
        return [Context(candidate, rank, score, logit) for rank, (candidate, logit, score) in enumerate(scored, 1)]

    async def close(self) -> None:
        """Fail what waits and join both threads, in bounded time."""
        await self._batcher.close(timeout_s=CLOSE_TIMEOUT_S)
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

    def _with_prior(self, candidate: Candidate, logit: float) -> float:
        # A collection whose space hides the cosine has no prior to give; all its candidates lack it alike.
        return logit + self._prior_weight * (candidate.similarity or 0.0)
