"""One document event, from its bytes to what becomes of it: decode → bring in, or dead letter.

``Delivery`` polls before this and commits after it, as for queries. Nothing is published but dead letters.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from worker.documents.stream.changes import Change
from worker.documents.stream.decode import Decoder, Wanted
from worker.documents.stream.marks import Mark
from worker.documents.stream.stage import Indexing
from worker.errors import FatalError, PoisonError
from worker.kafka.consume.records import Record
from worker.kafka.deliver.dead_letter import DeadLetter, dead_letter
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.settings import KafkaSettings
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import OFF, EventTrace, Tracing

logger = structlog.get_logger()

FRESH = frozenset({"written", "deleted"})


@dataclass(frozen=True, slots=True)
class IndexService:
    """What every job needs; makes the jobs."""

    kafka: KafkaSettings
    decoder: Decoder
    indexing: Indexing
    metrics: Metrics
    poison_guard: PoisonGuard
    unix_time_s: Callable[[], float] = time.time
    tracing: Tracing = OFF

    def job(self, record: Record) -> "IndexJob":
        """Decode a record into a job; a record that can't be decoded becomes a job that dead-letters it."""
        return IndexJob(self, record)


class IndexJob:
    """The work of one document event: ends with nothing to publish, with a dead letter, or cancelled."""

    pairs = 0
    """Of these it scores none; see ``Job``."""

    def __init__(self, service: IndexService, record: Record) -> None:
        self._service = service
        self._record = record
        self._decoded = _decode(service.decoder, record)

    async def run(self) -> DeadLetter | None:
        """Return the dead letter, or None when the collection is as the event wants it; see ``Job``."""
        service, decoded, record = self._service, self._decoded, self._record
        topic, partition, offset = record.position.topic, record.position.partition, record.position.offset
        about = {"document_id": decoded.id} if isinstance(decoded, Wanted) else {}
        with (
            structlog.contextvars.bound_contextvars(topic=topic, partition=partition, offset=offset),
            service.tracing.process(topic, partition, offset, record.key, record.headers, **about) as trace,
        ):
            service.poison_guard.count(poison=isinstance(decoded, PoisonError))
            try:
                await self._bring_in(decoded, trace)
            except PoisonError as error:
                return self._dead_letter(error.reason, str(error), trace)
            except FatalError:
                raise
            except Exception as error:
                # A bug that one event brings out must not stop the others, nor restart the process for ever.
                logger.exception("internal error")
                return self._dead_letter("internal_error", f"{type(error).__name__}: the worker's log has more", trace)
        return None

    async def _bring_in(self, wanted: Wanted | PoisonError | None, trace: EventTrace | None) -> None:
        if isinstance(wanted, PoisonError):
            raise wanted
        service = self._service
        outcome = "ignored" if wanted is None else await self._apply(wanted)
        service.metrics.documents.labels(outcome=outcome).inc()
        if trace is not None:
            trace.note(outcome)
        # What was there already, or had been undone, was not made findable now.
        if wanted is not None and outcome in FRESH and wanted.happened_s is not None:
            service.metrics.index_freshness_seconds.observe(
                max(0.0, service.unix_time_s() - wanted.happened_s),
                exemplar=None if trace is None else dict(trace.exemplar),
            )

    async def _apply(self, wanted: Wanted) -> str:
        change = Change(wanted.id, wanted.document, wanted.collection, Mark.of(self._record))
        operation: Literal["upsert", "delete"] = "delete" if wanted.document is None else "upsert"
        with self._service.tracing.write(operation, wanted.collection):
            return await self._service.indexing.apply(change)

    def _dead_letter(self, reason: str, message: str, trace: EventTrace | None) -> DeadLetter:
        if trace is not None:
            trace.failed(reason)
        now_s = self._service.unix_time_s()
        return dead_letter(
            self._record,
            "poison",
            reason,
            message,
            topic=self._service.kafka.dead_letter_topic,
            written_s=now_s if self._record.timestamp_s is None else self._record.timestamp_s,
            on_acknowledged=self._service.metrics.observe_dead_letter,
        )


def _decode(decoder: Decoder, record: Record) -> Wanted | PoisonError | None:
    try:
        return decoder.decode(record)
    except PoisonError as error:
        return error
    except Exception as error:
        # Whatever else one event brings out is its own dead letter too, not the end of those beside it.
        logger.exception("internal error")
        return PoisonError("internal_error", repr(error))
