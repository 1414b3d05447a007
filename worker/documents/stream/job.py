"""One document event, from its bytes to what becomes of it: decode → bring in, or dead letter.

``Delivery`` polls before this and commits after it, as for queries. Nothing is published but dead letters.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

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
        service, decoded, position = self._service, self._decoded, self._record.position
        fields = {"topic": position.topic, "partition": position.partition, "offset": position.offset}
        with structlog.contextvars.bound_contextvars(**fields):
            service.poison_guard.count(poison=isinstance(decoded, PoisonError))
            try:
                await self._bring_in(decoded)
            except PoisonError as error:
                return self._dead_letter(error.reason, str(error))
            except FatalError:
                raise
            except Exception as error:
                # A bug that one event brings out must not stop the others, nor restart the process for ever.
                logger.exception("internal error")
                return self._dead_letter("internal_error", f"{type(error).__name__}: the worker's log has more")
        return None

    async def _bring_in(self, wanted: Wanted | PoisonError | None) -> None:
        if isinstance(wanted, PoisonError):
            raise wanted
        service = self._service
        if wanted is None:
            service.metrics.documents.labels(outcome="ignored").inc()
            return
        change = Change(wanted.id, wanted.document, wanted.collection, Mark.of(self._record))
        outcome = await service.indexing.apply(change)
        service.metrics.documents.labels(outcome=outcome).inc()
        # What was there already, or had been undone, was not made findable now.
        if outcome in FRESH and wanted.happened_s is not None:
            service.metrics.index_freshness_seconds.observe(max(0.0, service.unix_time_s() - wanted.happened_s))

    def _dead_letter(self, reason: str, message: str) -> DeadLetter:
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
