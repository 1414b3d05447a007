"""One query event, from its bytes to its outcome: decode → pipeline → answer or dead letter.

``Delivery`` polls before this, publishes and commits after it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog
from pydantic import JsonValue

from schemas import wire
from schemas.events import AnswerEvent, Models, QueryEvent
from schemas.replies import ReplyRefusal, ReplyTo, reply_to
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.consume.records import Record
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.early_contexts import EarlyContexts
from worker.query.failures import code_of, sentence
from worker.query.mapping import answer_event, query_from
from worker.query.outcomes import Asked
from worker.query.pipeline import Pipeline
from worker.settings import Settings
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import OFF, Tracing

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Service:
    """What every job needs; makes the jobs."""

    settings: Settings
    pipeline: Pipeline
    metrics: Metrics
    models: Models
    poison_guard: PoisonGuard
    reply_topics: ReplyTopics
    unix_time_s: Callable[[], float] = time.time
    tracing: Tracing = OFF
    early_contexts: EarlyContexts | None = None
    """None: contexts leave with their answer alone."""

    def job(self, record: Record) -> "QueryJob":
        """Decode a record into a job; a record that can't be decoded becomes a job that dead-letters it."""
        return QueryJob(self, record)


class QueryJob:
    """The work of one query event: ends with an answer, with a dead letter, or cancelled and left uncommitted."""

    def __init__(self, service: Service, record: Record) -> None:
        self.service = service
        self._record = record
        begun_at_s = service.unix_time_s()
        self._decoded = decoded = _decode(record, max_bytes=service.settings.kafka.max_event_bytes)
        self._asked = Asked(
            record,
            query_id=decoded.id,
            query_text=decoded.text,
            metadata=decoded.metadata,
            begun_at_s=begun_at_s,
            settings=service.settings,
            metrics=service.metrics,
            reply_topics=service.reply_topics,
            unix_time_s=service.unix_time_s,
        )

    @property
    def pairs(self) -> int:
        """Pairs this query may put in flight; see ``Job``."""
        if isinstance(self._decoded, UndecodableError):
            return 0
        return self._decoded.top_k or self.service.settings.recall.top_k

    async def run(self) -> Publication:
        """Return the answer or the dead letter; see ``Job``."""
        position, record = self._record.position, self._record
        with (
            structlog.contextvars.bound_contextvars(**self._asked.log_fields),
            self.service.tracing.process(
                position.topic,
                position.partition,
                position.offset,
                record.key,
                record.headers,
                query_id=self._asked.query_id,
            ) as trace,
        ):
            # What is no query event tells of a broken producer. A query that fails later (its collection is gone, its
            # filter is wrong, a bug of ours) is one asker's, and may not end the worker for all.
            self.service.poison_guard.count(poison=isinstance(self._decoded, UndecodableError))
            reply = await self._find_reply_topic()
            asked = self._asked if reply is None and trace is None else replace(self._asked, reply=reply, trace=trace)
            try:
                return asked.answered(await self._answer(self._decoded, asked))
            except PoisonError as error:
                return asked.dead_letter("poison", error.reason, str(error))
            except TransientError as error:
                # Its own words may name hosts: whoever may read the dead letters need not know them.
                logger.warning("a query is given up", code=error.code, reason=str(error))
                code = code_of(error, "query")
                return asked.dead_letter("transient", "retries_exhausted", f"{code}: {sentence(code)}")
            except FatalError:
                raise
            except Exception as error:
                # A bug that one event brings out must not stop the others, nor restart the process for ever: the
                # event is set aside as poison, with its stack in the log.
                logger.exception("internal error")
                kind = type(error).__name__
                return asked.dead_letter("poison", "internal_error", f"{kind}: the worker's log has more")

    async def _find_reply_topic(self) -> ReplyTo | ReplyRefusal | None:
        reply_topics = self.service.reply_topics
        wanted = reply_to(self._record.headers)
        if wanted is None:
            return None
        if wanted.topic == self.service.settings.kafka.answer_topic and not reply_topics.allows(wanted.topic):
            # Nothing is refused to who wants the answer where it goes anyway.
            return None
        return await reply_topics.resolve(wanted)

    async def _answer(self, event: "QueryEvent | UndecodableError", asked: Asked) -> AnswerEvent:
        if isinstance(event, UndecodableError):
            raise event
        service = self.service
        query = query_from(event, asked_at_s=asked.asked_at_s, settings=service.settings)
        early = service.early_contexts
        on_contexts = None if early is None else partial(early.send, asked, event)
        return answer_event(
            event,
            query,
            await service.pipeline.run(query, on_contexts),
            asked.attempt,
            models=service.models,
            now_s=service.unix_time_s(),
        )


class UndecodableError(PoisonError):
    """The record is no query event. What of one it has all the same is empty where nothing could be read."""

    def __init__(self, reason: str, message: str, *, query_id: str = "", text: str = "") -> None:
        super().__init__(reason, message)
        self.id = query_id
        self.text = text
        self.metadata: dict[str, JsonValue] | None = None


def _decode(record: Record, *, max_bytes: int) -> QueryEvent | UndecodableError:
    if record.unreadable_headers is not None:
        return UndecodableError("invalid_headers", record.unreadable_headers)
    try:
        return wire.decode_query(record.value, record.headers, max_bytes=max_bytes)
    except wire.WireError as error:
        return UndecodableError(error.reason, str(error), query_id=error.query_id, text=error.query_text)
    except Exception as error:
        # Whatever else one event brings out is its own dead letter too, not the end of those beside it.
        logger.exception("internal error")
        return UndecodableError("internal_error", repr(error))
