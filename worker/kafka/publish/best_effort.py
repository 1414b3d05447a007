"""Records that nobody waits for: delivered if that costs no one anything, and counted where it does not come to that.

A client of its own: what it can't deliver fills no queue that outcomes need, and ends no producer of theirs.
The broker refuses a batch as a whole: here what shares one with a record that is too large is lost with it.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from worker.kafka.config import best_effort_config
from worker.kafka.deliver.in_flight import held_bytes
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.idempotent_producer import ReportingProducer
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# Memory while their topic takes nothing: without a bound, a minute of records that nobody will get.
MOST_BYTES = 16 * 2**20
# Of a worker's end, for which others wait: its answers are out by then.
CLOSE_TIMEOUT_S = 1.0


class BestEffort:
    """Used on the loop's thread; ``start`` and ``close`` once each."""

    def __init__(
        self, kafka: KafkaSettings, client_id: str | None = None, *, on_outcome: Callable[[str], None] = lambda _: None
    ) -> None:
        """``on_outcome`` is told on the loop what became of each record: `sent`, `failed` or `dropped`."""
        self._on_outcome = on_outcome
        self._producer = ReportingProducer(best_effort_config(kafka, client_id), CLOSE_TIMEOUT_S)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held_bytes = 0
        self._failing = False

    def start(self) -> None:
        """Begin to serve delivery reports."""
        self._producer.start()

    def publish(self, publication: Publication) -> None:
        """Hand a record over and return at once; raises nothing, whatever becomes of it.

        It is dropped while too much waits, and given up after ``delivery_timeout_s``.
        """
        size = held_bytes(publication)
        if self._held_bytes + size > MOST_BYTES:
            self._count("dropped", publication, f"{self._held_bytes} bytes wait already")
            return
        self._held_bytes += size
        task = asyncio.get_running_loop().create_task(self._deliver(publication))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, publication, size))

    async def close(self) -> None:
        """Give what is still queued a moment, and join the thread."""
        await self._producer.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, publication: Publication) -> None:
        await self._producer.publish(publication)
        publication.acknowledged()

    def _ended(self, publication: Publication, size: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._held_bytes -= size
        # Of any kind: an error that is fatal to outcomes is not worth ending a worker for here.
        error = asyncio.CancelledError("the worker ends") if task.cancelled() else task.exception()
        if error is None:
            self._count("sent", publication)
        else:
            self._count("failed", publication, str(error) or repr(error))

    def _count(self, outcome: str, publication: Publication, why: str | None = None) -> None:
        self._on_outcome(outcome)
        # A line when it begins and one when all that waited is through, not one a record.
        if why is not None and not self._failing:
            logger.warning("best-effort records do not get through", topic=publication.topic, reason=why)
            self._failing = True
        elif why is None and self._failing and not self._tasks:
            logger.info("best-effort records get through again", topic=publication.topic)
            self._failing = False
