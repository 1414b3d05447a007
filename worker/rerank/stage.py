"""The rerank stage: pairs of many queries scored together, each query ordered by its own scores."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from worker.batching.batcher import BatchReport, ClosedError, MicroBatcher, at_once
from worker.batching.executor import SingleThreadExecutor
from worker.batching.queue import Limits
from worker.domain import Candidate, Context, Query
from worker.errors import FatalError, TransientError, WorkerError
from worker.rerank.backends.device import out_of_memory
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.pairs.tokenizer import Asked
from worker.rerank.ranking import document_scores, ranked
from worker.rerank.scorer import Scorer
from worker.resilience.retry import expiring, on_loop_clock
from worker.settings import RerankSettings

CLOSE_TIMEOUT_S = 30.0

# Tokenised in one go: enough to fill a batch of short pairs, few enough that the first does not wait for the last.
TOKENIZED_QUERIES = 32
TOKENIZED_DOCUMENTS = 1_000


class MicroBatchedReranker:
    """Implements ``Reranker``. Built and used on the loop's thread; ``close`` once."""

    def __init__(
        self,
        scorer: Scorer,
        settings: RerankSettings,
        *,
        prior_weight: float,
        on_batch: Callable[[BatchReport], None],
        executor: SingleThreadExecutor | None = None,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        """Score on ``executor``, the thread that loaded the scorer and stays its owner's (``compute_executor``).

        Without one the batches get a thread of their own.
        """
        self._scorer = scorer
        self._unix_time_s = unix_time_s
        self._prior_weight = prior_weight
        self._mean = settings.long_documents == "mean"
        # A tokenizer must not be used by two threads at once ("Already borrowed", huggingface/transformers#47085),
        # and a thread of its own tokenises the next queries while the present ones are scored: those that came
        # meanwhile at once, since to wake a thread and the loop costs as much as to make the pairs of a query.
        self._tokenizing = SingleThreadExecutor("rerank-tokenize")
        self._encoder: MicroBatcher[Asked, list[EncodedPair]] = MicroBatcher(
            at_once(scorer.encode_all),
            name="rerank-tokenize",
            limits=Limits(TOKENIZED_QUERIES, TOKENIZED_DOCUMENTS, max_wait_s=0),
            cost=lambda asked: len(asked[1]),
            on_batch=lambda _: None,
            executor=self._tokenizing,
        )
        self._batcher: MicroBatcher[EncodedPair, float] = MicroBatcher(
            partial(_started, scorer),
            name="rerank-score",
            limits=Limits(
                settings.batch_pairs or scorer.batches.pairs,
                settings.batch_tokens or max(scorer.batches.tokens, settings.max_length),
                settings.max_wait_ms / 1000,
                padded=scorer.batches.padded,
            ),
            cost=lambda pair: pair.tokens,
            on_batch=on_batch,
            under_way=scorer.batches.under_way,
            out_of_memory=out_of_memory,
            executor=executor,
        )

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        """Score and order the candidates; see ``Reranker``.

        Cancelling takes its pairs out of the queue, and so does its deadline: ExpiredError.
        """
        # A text that was recalled twice is scored once.
        texts = list(dict.fromkeys(candidate.text for candidate in candidates))
        deadline_s = on_loop_clock(query, unix_now_s=self._unix_time_s())
        try:
            [pairs] = await self._encoder.submit([(query.text, texts)], deadline_s=deadline_s)
            logits = await self._batcher.submit(pairs, deadline_s=deadline_s)
            of_text = dict(zip(texts, document_scores(pairs, logits, mean=self._mean), strict=True))
            scores = [of_text[candidate.text] for candidate in candidates]
            ranking = ranked(candidates, scores, prior_weight=self._prior_weight)
            windows = {
                each.recall_rank: score.best_window
                for each, score in zip(candidates, scores, strict=True)
                if score.best_window is not None
            }
            if not windows:
                return ranking
            async with expiring(deadline_s, "rerank-windows"):
                kept = await self._with_windows(ranking[: query.top_n], windows)
            return [*kept, *ranking[query.top_n :]]
        except WorkerError:
            raise
        except ClosedError as error:
            # Nothing will be scored in this process any more; degrading every answer from here on would hide it.
            raise FatalError(f"the rerank stage has ended: {error}") from error
        except Exception as error:
            raise TransientError(f"{self._scorer.model_name} failed: {type(error).__name__}: {error}") from error

    async def _with_windows(self, kept: Sequence[Context], windows: Mapping[int, range]) -> list[Context]:
        """Put down where in their texts the best windows of long documents are. ``windows``: of tokens, by recall rank.

        For those alone that an answer may be made from: it takes the tokenizer once more over the whole text.
        """
        long = [context.candidate for context in kept if context.candidate.recall_rank in windows]
        if not long:
            return list(kept)
        asked = [candidate.text for candidate in long], [windows[candidate.recall_rank] for candidate in long]
        spans = await self._tokenizing.run(partial(self._scorer.spans, *asked))
        of_rank = {candidate.recall_rank: span for candidate, span in zip(long, spans, strict=True)}
        return [context._replace(window=of_rank.get(context.candidate.recall_rank)) for context in kept]

    @property
    def threads(self) -> Sequence[SingleThreadExecutor]:
        """The threads on which a query may hang."""
        return (self._tokenizing, *self._batcher.threads)

    async def close(self) -> None:
        """Fail what waits and join the stage's own threads, in bounded time."""
        await self._encoder.close(timeout_s=CLOSE_TIMEOUT_S)
        await self._batcher.close(timeout_s=CLOSE_TIMEOUT_S)
        await self._tokenizing.aclose(CLOSE_TIMEOUT_S)


def _started(scorer: Scorer, pairs: Sequence[EncodedPair]) -> Callable[[], list[float | Exception]]:
    """Start a batch; what is returned waits for its scores.

    A pair without a number fails its query and no other: it would be ranked by chance.
    """
    wait = scorer.start(pairs)
    return lambda: [score if math.isfinite(score) else _no_number(scorer) for score in wait()]


def _no_number(scorer: Scorer) -> TransientError:
    return TransientError(f"{scorer.model_name} gave a score that is not a number")
