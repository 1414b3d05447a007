"""The way of one query: recall → rerank → answer. The stages in order, each timed, and nothing else."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from worker.domain import Answerer, Candidate, Context, GeneratedAnswer, Query, Recall, Reranker, Result
from worker.errors import ExpiredError, TransientError
from worker.query.failures import code_of
from worker.settings import Settings
from worker.telemetry.tracing import OFF, StageSpan, Tracing

logger = structlog.get_logger()

Stage = Literal["recall", "rerank", "answer"]
Status = Literal["ok", "degraded", "no_context", "expired"]


@dataclass(slots=True)
class Outcome:
    """What became of one query, filled in stage by stage."""

    status: Status = "ok"
    ranking: Sequence[Context] = ()
    """Every candidate, best first."""
    contexts: Sequence[Context] = ()
    """The head of the ranking that was kept."""
    answer: GeneratedAnswer | None = None
    failures: dict[Stage, str] = field(default_factory=dict)
    """Stages that failed and were done without, and the code of why."""
    seconds: dict[Stage, float] = field(default_factory=dict)
    """Time spent per stage, waiting for batches included."""

    def ended(self, status: Status) -> "Outcome":
        """Set how the query ended and return the outcome."""
        self.status = status
        return self


OnContexts = Callable[[Outcome], None]
"""Told, before an answer is made, what it will rest on; returns at once and raises nothing."""


class Pipeline:
    """Runs queries concurrently: one call per query, all on the loop's thread; batching happens inside the stages."""

    def __init__(
        self,
        recall: Recall,
        reranker: Reranker,
        answerer: Answerer,
        settings: Settings,
        *,
        tracing: Tracing = OFF,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        self._tracing = tracing
        self._recall = recall
        self._reranker = reranker
        self._answerer = answerer
        self._settings = settings
        self._unix_time_s = unix_time_s

    async def run(self, query: Query, on_contexts: OnContexts | None = None) -> Outcome:
        """Take one query through the stages; ``on_contexts`` is told what an answer will rest on, before it is made.

        Raises PoisonError (this query can never be answered), TransientError (a stage gave up and may not be done
        without) or FatalError.
        """
        outcome = Outcome()
        try:
            return await self._through(query, outcome, on_contexts)
        except ExpiredError:
            return outcome.ended("expired")
        except TransientError:
            # What a stage could not do in time need not be done any more.
            if self._expired(query):
                return outcome.ended("expired")
            raise

    async def _through(self, query: Query, outcome: Outcome, on_contexts: OnContexts | None) -> Outcome:
        if self._expired(query):
            return outcome.ended("expired")
        with self._tracing.recall(query.collection, query.text) as span:
            candidates = await _timed(outcome, "recall", self._recall.recall(query))
            span.note(rerank_worker__candidates=len(candidates))
        if candidates.lacks is not None:
            outcome.failures["recall"] = candidates.lacks
        if not candidates:
            return outcome.ended("no_context")

        if self._expired(query):
            outcome.ranking = in_recall_order(candidates)
            return outcome.ended("expired")
        await self._rerank(query, candidates, outcome)
        outcome.contexts = keep(outcome.ranking, query)
        if not outcome.contexts:
            return outcome.ended("no_context")

        if self._expired(query):
            return outcome.ended("expired")
        if is_to_be_answered(query, outcome):
            if on_contexts is not None:
                on_contexts(outcome)
            outcome.answer = await self._answer(query, outcome)
        return outcome.ended("degraded" if outcome.failures else "ok")

    def _expired(self, query: Query) -> bool:
        return query.deadline_s is not None and self._unix_time_s() >= query.deadline_s

    async def _rerank(self, query: Query, candidates: Sequence[Candidate], outcome: Outcome) -> None:
        try:
            with self._tracing.rerank(query.top_n, query.text):
                outcome.ranking = await _timed(outcome, "rerank", self._reranker.rerank(query, candidates))
        except TransientError as error:
            # What expires here tells as well what was recalled.
            outcome.ranking = in_recall_order(candidates)
            if isinstance(error, ExpiredError) or self._settings.rerank.on_failure == "dead_letter":
                raise
            _note_failure(outcome, "rerank", error)

    async def _answer(self, query: Query, outcome: Outcome) -> GeneratedAnswer | None:
        try:
            with self._tracing.answer(query.text) as span:
                answer = await _timed(outcome, "answer", self._answerer.answer(query, outcome.contexts))
                _note_tokens(span, answer)
                return answer
        except ExpiredError:
            raise
        except TransientError as error:
            if self._settings.answer.on_failure == "dead_letter":
                raise
            _note_failure(outcome, "answer", error)
            return None


def is_to_be_answered(query: Query, outcome: Outcome) -> bool:
    """Return whether an answer is made from these contexts."""
    # Without scores there is no telling whether they are good enough for a model that invents.
    unchecked = "rerank" in outcome.failures and query.min_score is not None
    return query.generate and not unchecked


def keep(ranking: Sequence[Context], query: Query) -> Sequence[Context]:
    """Return the best ``top_n`` contexts that reach ``min_score``; unscored ones are kept, for nobody judged them."""
    floor = query.min_score
    good = [c for c in ranking if floor is None or c.rerank_score is None or c.rerank_score >= floor]
    return good[: query.top_n]


def in_recall_order(candidates: Sequence[Candidate]) -> Sequence[Context]:
    """Return the candidates as they were recalled, unscored: a score nobody computed is never invented."""
    return [Context(candidate, rank, rerank_score=None, logit=None) for rank, candidate in enumerate(candidates, 1)]


def _note_tokens(span: StageSpan, answer: GeneratedAnswer) -> None:
    if answer.usage is not None:
        span.note(
            gen_ai__usage__input_tokens=answer.usage.prompt_tokens,
            gen_ai__usage__output_tokens=answer.usage.completion_tokens,
        )


def _note_failure(outcome: Outcome, stage: Stage, error: TransientError) -> None:
    outcome.failures[stage] = code_of(error, stage)
    logger.warning("done without a stage", stage=stage, code=outcome.failures[stage], reason=str(error))


async def _timed(outcome: Outcome, stage: Stage, call: Awaitable[Result]) -> Result:
    start_s = time.monotonic()
    try:
        return await call
    except TransientError as error:
        # Whoever says it outside can say which stage it was.
        error.code = code_of(error, stage)
        raise
    finally:
        outcome.seconds[stage] = time.monotonic() - start_s
