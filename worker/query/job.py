"""One query event, from its bytes to its outcome: decode → pipeline → answer or dead letter.

``Delivery`` polls before this, publishes and commits after it.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from schemas import wire
from schemas.events import AnswerEvent, DeadLetterInfo, Models, QueryEvent
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.consume.records import Record
from worker.kafka.deliver.outcome import Publication
from worker.query.failures import code_of, sentence
from worker.query.mapping import answer_event, query_from
from worker.query.pipeline import Pipeline
from worker.settings import Settings
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()

# A key that is longer is left out too where a dead letter does not fit its topic.
CLAIM_CHECK_KEY_BYTES = 1_024


class PoisonGuard:
    """Against a broken producer: when too much of a topic is poison, stop instead of draining it into dead letters.

    Counts the last events; poison is what can't be decoded. Belongs to the loop thread.
    """

    def __init__(self, *, limit: float, window: int) -> None:
        """``limit`` is the share of poison, 0 to 1, that is still borne among ``window`` events; 1 bears all."""
        self._limit = limit
        self._recent: deque[bool] = deque(maxlen=window)
        self._poison = 0

    def count(self, *, poison: bool) -> None:
        """Count one more event. FatalError once the window is full and holds more poison than is borne."""
        if len(self._recent) == self._recent.maxlen:
            self._poison -= self._recent[0]
        self._recent.append(poison)
        self._poison += poison
        if len(self._recent) == self._recent.maxlen and self._poison > self._limit * len(self._recent):
            raise FatalError(
                f"{self._poison} of the last {len(self._recent)} events were poison: see `rerank-worker dlq list`, and "
                "mend their producer; RERANK_WORKER_KAFKA__POISON_LIMIT=1 sets all poison aside without stopping"
            )


@dataclass(frozen=True, slots=True)
class Service:
    """What every job needs; makes the jobs."""

    settings: Settings
    pipeline: Pipeline
    metrics: Metrics
    models: Models
    poison_guard: PoisonGuard
    unix_time_s: Callable[[], float] = time.time

    def job(self, record: Record) -> "QueryJob":
        """Decode a record into a job; a record that can't be decoded becomes a job that dead-letters it."""
        return QueryJob(self, record)


class QueryJob:
    """The work of one query event: ends with an answer, with a dead letter, or cancelled and left uncommitted."""

    def __init__(self, service: Service, record: Record) -> None:
        self.service = service
        self._record = record
        self._begun_at_s = service.unix_time_s()
        self.asked_at_s = self._begun_at_s if record.timestamp_s is None else record.timestamp_s
        self._decoded = _decode(record, max_bytes=service.settings.kafka.max_event_bytes)

    @property
    def pairs(self) -> int:
        """Pairs this query may put in flight; see ``Job``."""
        if isinstance(self._decoded, PoisonError):
            return 0
        return self._decoded.top_k or self.service.settings.recall.top_k

    async def run(self) -> Publication:
        """Return the answer or the dead letter; see ``Job``."""
        with structlog.contextvars.bound_contextvars(**self.log_fields):
            # What is no query event tells of a broken producer. A query that fails later (its collection is gone, its
            # filter is wrong, a bug of ours) is one asker's, and may not end the worker for all.
            self.service.poison_guard.count(poison=isinstance(self._decoded, PoisonError))
            try:
                return await self._answer(self._decoded)
            except PoisonError as error:
                return self.dead_letter("poison", error.reason, str(error))
            except TransientError as error:
                # Its own words may name hosts: whoever may read the dead letters need not know them.
                logger.warning("a query is given up", code=error.code, reason=str(error))
                code = code_of(error, "query")
                return self.dead_letter("transient", "retries_exhausted", f"{code}: {sentence(code)}")
            except FatalError:
                raise
            except Exception as error:
                # A bug that one event brings out must not stop the others, nor restart the process for ever: the
                # event is set aside as poison, with its stack in the log.
                logger.exception("internal error")
                kind = type(error).__name__
                return self.dead_letter("poison", "internal_error", f"{kind}: the worker's log has more")

    @property
    def log_fields(self) -> dict[str, Any]:
        """What every log line about this query says of it."""
        position = self._record.position
        return {
            "topic": position.topic,
            "partition": position.partition,
            "offset": position.offset,
            "query_id": None if isinstance(self._decoded, PoisonError) else self._decoded.id,
        }

    async def _answer(self, event: QueryEvent | PoisonError) -> Publication:
        if isinstance(event, PoisonError):
            raise event
        service = self.service
        query = query_from(event, asked_at_s=self.asked_at_s, settings=service.settings)
        outcome = await service.pipeline.run(query)
        answer = answer_event(
            event,
            query,
            outcome,
            models=service.models,
            worker_id=service.settings.worker_id,
            begun_at_s=self._begun_at_s,
            now_s=service.unix_time_s(),
        )
        made_s = time.monotonic()
        return _Answer(
            service.settings.kafka.answer_topic,
            key=self._record.key,
            value=wire.encode_answer(answer),
            headers=wire.passthrough_headers(self._record.headers),
            job=self,
            event=answer,
            made_s=made_s,
        )

    def dead_letter(self, kind: Literal["poison", "transient"], reason: str, message: str) -> Publication:
        """Return the record to be set aside, with why."""
        position = self._record.position
        info = DeadLetterInfo(
            error_kind=kind,
            error_class=reason,
            error_message=message,
            source_topic=position.topic,
            source_partition=position.partition,
            source_offset=position.offset,
            source_timestamp=datetime.fromtimestamp(self.asked_at_s, UTC),
            attempts=1 + wire.attempts(self._record.headers),
        )
        return _DeadLetter(
            self.service.settings.kafka.dead_letter_topic,
            key=self._record.key,
            value=self._record.value,
            headers=wire.dead_letter_headers(info, self._record.headers),
            job=self,
            info=info,
        )

    def claim_check(self, info: DeadLetterInfo) -> Publication:
        """Return a dead letter that fits any topic: where the record stands, in place of what it holds."""
        key = self._record.key
        return _ClaimCheck(
            self.service.settings.kafka.dead_letter_topic,
            key=key if key is not None and len(key) <= CLAIM_CHECK_KEY_BYTES else None,
            value=None,
            headers=[*wire.dead_letter_headers(info, ()), (wire.VALUE_OMITTED, b"true")],
            job=self,
            info=info,
        )


@dataclass(frozen=True, slots=True)
class _Answer(Publication):
    job: QueryJob
    event: AnswerEvent
    made_s: float
    """On the monotonic clock."""

    def acknowledged(self) -> None:
        service = self.job.service
        service.metrics.observe_answer(
            self.event,
            publish_s=time.monotonic() - self.made_s,
            end_to_end_s=service.unix_time_s() - self.job.asked_at_s,
        )
        event = self.event
        logger.info("answered", status=event.status, total_ms=event.timings_ms.total, **self.job.log_fields)

    def refused(self, error: PoisonError) -> Publication:
        return self.job.dead_letter("poison", error.reason, str(error))


@dataclass(frozen=True, slots=True)
class _DeadLetter(Publication):
    job: QueryJob
    info: DeadLetterInfo

    def acknowledged(self) -> None:
        info = self.info
        self.job.service.metrics.observe_dead_letter(info.error_class)
        logger.warning(
            "dead-lettered",
            kind=info.error_kind,
            reason=info.error_class,
            message=info.error_message,
            **self.job.log_fields,
        )

    def refused(self, error: PoisonError) -> Publication | None:  # noqa: ARG002 - what it says is of the dead letter
        # The event is still in its own topic: a note of where is better than a partition that stands still for ever.
        return self.job.claim_check(self.info)


@dataclass(frozen=True, slots=True)
class _ClaimCheck(_DeadLetter):
    """See ``QueryJob.claim_check``."""

    def refused(self, error: PoisonError) -> Publication | None:  # noqa: ARG002 - there is nothing smaller
        return None


def _decode(record: Record, *, max_bytes: int) -> QueryEvent | PoisonError:
    if record.unreadable_headers is not None:
        return PoisonError("invalid_headers", record.unreadable_headers)
    try:
        return wire.decode_query(record.value, record.headers, max_bytes=max_bytes)
    except wire.WireError as error:
        return PoisonError(error.reason, str(error))
    except Exception as error:
        # Whatever else one event brings out is its own dead letter too, not the end of those beside it.
        logger.exception("internal error")
        return PoisonError("internal_error", repr(error))
