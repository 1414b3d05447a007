"""Between the public events and what the stages work on."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from schemas.contexts import ContextsEvent, ContextsTimings
from schemas.events import (
    Answer,
    AnswerEvent,
    AnswerStatus,
    CandidateInfo,
    ContextInfo,
    DeadLetterInfo,
    Degradation,
    Failure,
    Models,
    QueryEvent,
    Timings,
    Usage,
)
from schemas.wire import one_line
from worker.domain import Context, GeneratedAnswer, Query
from worker.query.failures import sentence
from worker.query.pipeline import Outcome
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's work on one query: what each of its events says of it. Times are Unix seconds."""

    id: str
    worker_id: str
    asked_at_s: float
    begun_at_s: float

    def queue_ms(self) -> float:
        """Return how long the query had waited when it was begun with."""
        return _ms(self.begun_at_s - self.asked_at_s)

    def total_ms(self, now_s: float) -> float:
        """Return how long ago it was asked."""
        return _ms(now_s - self.asked_at_s)


def query_from(event: QueryEvent, *, asked_at_s: float, settings: Settings) -> Query:
    """Fill an event's gaps from the settings. ``asked_at_s``: its Kafka timestamp, Unix seconds."""
    top_k = event.top_k or settings.recall.top_k
    return Query(
        id=event.id,
        text=event.text,
        collection=event.collection or settings.recall.collection,
        top_k=top_k,
        top_n=event.top_n or settings.rerank.top_n,
        # Chroma rejects an empty filter; a producer that sends one means "no filter".
        where=event.where or None,
        min_score=settings.rerank.min_score if event.min_score is None else event.min_score,
        generate=event.generate,
        include_candidates=event.include_candidates,
        asked_at_s=asked_at_s,
        deadline_s=None if event.deadline_ms is None else asked_at_s + event.deadline_ms / 1000,
    )


def answer_event(
    event: QueryEvent, query: Query, outcome: Outcome, attempt: Attempt, *, models: Models, now_s: float
) -> AnswerEvent:
    """Describe an outcome as the public event. ``now_s``: Unix seconds."""
    return AnswerEvent(
        query_id=event.id,
        query_text=event.text,
        attempt_id=attempt.id,
        status=AnswerStatus(outcome.status),
        contexts=_contexts(outcome),
        candidates=_candidates(outcome) if query.include_candidates else None,
        answer=None if outcome.answer is None else _answer(outcome.answer),
        degradations=_degradations(outcome),
        timings_ms=Timings(
            queue=attempt.queue_ms(),
            recall=_ms(outcome.seconds.get("recall", 0)),
            rerank=_ms(outcome.seconds.get("rerank", 0)),
            answer=_ms(outcome.seconds.get("answer", 0)),
            total=attempt.total_ms(now_s),
        ),
        models=models if outcome.answer is None else models.model_copy(update={"answer": outcome.answer.model}),
        worker=attempt.worker_id,
        answered_at=datetime.fromtimestamp(now_s, UTC),
        metadata=event.metadata,
    )


def contexts_event(
    event: QueryEvent, outcome: Outcome, attempt: Attempt, *, models: Models, now_s: float
) -> ContextsEvent:
    """Describe an outcome that has its contexts, and no answer yet. ``now_s``: Unix seconds."""
    return ContextsEvent(
        query_id=event.id,
        query_text=event.text,
        attempt_id=attempt.id,
        contexts=_contexts(outcome),
        degradations=_degradations(outcome),
        timings_ms=ContextsTimings(
            queue=attempt.queue_ms(),
            recall=_ms(outcome.seconds.get("recall", 0)),
            rerank=_ms(outcome.seconds.get("rerank", 0)),
            total=attempt.total_ms(now_s),
        ),
        models=models,
        worker=attempt.worker_id,
        made_at=datetime.fromtimestamp(now_s, UTC),
        metadata=event.metadata,
    )


def failed_event(
    info: DeadLetterInfo,
    attempt: Attempt,
    *,
    query_id: str,
    query_text: str,
    metadata: dict[str, JsonValue] | None,
    now_s: float,
) -> AnswerEvent:
    """Tell an asker what a dead letter says. How far the query came is not known. ``now_s``: Unix seconds."""
    return AnswerEvent(
        query_id=query_id,
        query_text=query_text,
        attempt_id=attempt.id,
        status=AnswerStatus.FAILED,
        failure=Failure(kind=info.error_kind, code=info.error_class, reason=one_line(info.error_message)),
        timings_ms=Timings(queue=attempt.queue_ms(), recall=0, rerank=0, answer=0, total=attempt.total_ms(now_s)),
        models=Models(),
        worker=attempt.worker_id,
        answered_at=datetime.fromtimestamp(now_s, UTC),
        metadata=metadata,
    )


def _contexts(outcome: Outcome) -> list[ContextInfo]:
    return [ContextInfo.model_validate(_described(context)) for context in outcome.contexts]


def _degradations(outcome: Outcome) -> list[Degradation]:
    return [Degradation(stage=stage, reason=sentence(code), code=code) for stage, code in outcome.failures.items()]


def _candidates(outcome: Outcome) -> list[CandidateInfo]:
    in_recall_order = sorted(outcome.ranking, key=lambda context: context.candidate.recall_rank)
    return [CandidateInfo.model_validate(_described(context)) for context in in_recall_order]


def _described(context: Context) -> dict[str, object]:
    candidate = context.candidate
    return {
        "document_id": candidate.document_id,
        "text": candidate.text,
        "metadata": dict(candidate.metadata),
        "recall_rank": candidate.recall_rank,
        "distance": candidate.distance,
        "legs": None if candidate.legs is None else list(candidate.legs),
        "rerank_rank": context.rerank_rank,
        "rerank_score": context.rerank_score,
        "rerank_logit": context.logit,
        "rerank_windows": context.windows,
        "truncated": context.truncated,
        "window": None if context.window is None else list(context.window),
    }


def _answer(answer: GeneratedAnswer) -> Answer:
    usage = answer.usage and Usage(
        prompt_tokens=answer.usage.prompt_tokens, completion_tokens=answer.usage.completion_tokens
    )
    return Answer(
        text=answer.text,
        citations=list(answer.citations),
        model=answer.model,
        usage=usage,
        truncated=answer.truncated,
        prompt_truncated=answer.prompt_truncated,
    )


def _ms(seconds: float) -> float:
    # Clocks of producer and worker differ: a query can't have been asked after it was read.
    return round(max(0.0, seconds) * 1000, 3)
