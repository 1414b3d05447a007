"""The worker's own jobs around a stage that is measured. Apart, since it needs the packages of the Kafka side.

Short: the parts are the worker's.
"""

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry

from benchmarks.simulated_worker import MODEL, NoAnswerer
from schemas.events import Models
from worker.domain import Recall, Reranker
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.job import Service
from worker.query.pipeline import Pipeline
from worker.settings import Settings
from worker.telemetry.metrics import Metrics


def jobs(settings: Settings, recall: Recall, reranker: Reranker) -> Callable[[bytes], Awaitable[object]]:
    """Return what takes a query event's bytes to the publication of its answer."""
    pipeline = Pipeline(recall, reranker, NoAnswerer(), settings)
    models = Models(embedding=MODEL, cross_encoder=MODEL, prior_weight=0)
    guard = PoisonGuard(limit=1, window=200)
    service = Service(settings, pipeline, Metrics(CollectorRegistry()), models, guard, ReplyTopics(settings.kafka))
    offset = 0

    async def run(event: bytes) -> object:
        nonlocal offset
        offset += 1
        record = Record(Position("queries", 0, offset), key=None, value=event, headers=(), timestamp_ms=None)
        return await service.job(record).run()

    return run
