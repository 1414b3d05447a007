"""From the settings to the parts of a live index, as ``build`` does it for queries."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from worker.app.traces import new_tracer, observe_batch
from worker.app.watching import watch_delivery
from worker.batching.executor import compute_executor
from worker.documents.chunker import Chunker
from worker.documents.stream.collections import DocumentCollections
from worker.documents.stream.decode import Decoder
from worker.documents.stream.job import IndexService
from worker.documents.stream.stage import Indexing
from worker.documents.stream.standstill import Standstill
from worker.documents.stream.store import DocumentStore
from worker.errors import FatalError, WorkerError
from worker.kafka.admin import topics
from worker.kafka.consume.source import Source
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.kafka.publish.guarantees import new_guarantee
from worker.models import resolve as models
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import load_embedder
from worker.recall.lexical.index import new_lexical_index
from worker.settings import Settings
from worker.telemetry.health import Health
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import Names, Tracing

CLOSE_TIMEOUT_S = 1.0
"""For what waits to fail; a batch under way ends with the thread it runs on."""


async def build_index(
    settings: Settings, metrics: Metrics, health: Health, parts: AsyncExitStack, *, filled: Mapping[str, str]
) -> Delivery:
    """Build what follows the documents topic; ``parts`` takes it down again. What fails fast comes first.

    ``settings.kafka`` is as ``for_documents`` makes it. ``filled`` has the collections to keep by the names that events
    use; documents for others are none of this process's.
    """
    kafka = settings.kafka
    health.starting = "looking for the Kafka topics"
    await asyncio.to_thread(topics.ensure, kafka, create=kafka.create_topics, names=topics.index_topics(kafka))
    await asyncio.to_thread(topics.warn_if_dead_letters_may_not_fit, kafka)

    tracer = new_tracer(settings, parts)

    standstill = Standstill(session_timeout_s=kafka.session_timeout_s)
    await parts.enter_async_context(standstill.watching())
    # What fails is tried again change by change, for ever (``Indexing``), and not call by call as well.
    connection = ChromaConnection(settings.recall.model_copy(update={"attempts": 1}), standstill.check)
    parts.callback(connection.close)
    lexical = new_lexical_index(settings.recall, standstill.check)
    if lexical is not None:
        parts.callback(lexical.close)
    health.starting = "loading the model"
    embedding = await asyncio.to_thread(models.resolve, "embedding", settings)
    executor = await parts.enter_async_context(compute_executor("index"))
    embedder = await executor.run(partial(load_embedder, embedding, settings))
    metrics.models.info({"embedding": embedding.name, "cross_encoder": "", "answer": ""})

    health.starting = "reaching the vector store"
    decoder = Decoder(settings.index, topic=kafka.query_topic, collection=settings.recall.collection)
    chunker = Chunker(embedder.new_tokenizer(), embedder.max_tokens)

    def new_store(collection: str) -> DocumentStore:
        return DocumentStore(
            connection,
            embedder,
            chunker,
            collection=collection,
            source=decoder.source,
            top_k=settings.recall.top_k,
            timeout_s=settings.recall.timeout_s,
            lexical=lexical,
            on_step=executor.still_at_work,
        )

    try:
        stores = {name: await executor.run(partial(new_store, collection)) for name, collection in filled.items()}
    except WorkerError:
        raise
    except Exception as error:
        raise FatalError(f"Chroma at {connection.address} gives no collection for documents: {error}") from error
    indexing = Indexing(
        DocumentCollections(stores).apply,
        settings.index,
        executor,
        on_batch=partial(observe_batch, metrics, tracer, "index"),
        on_failure=partial(metrics.observe_dependency_error, "store"),
    )
    parts.push_async_callback(partial(indexing.close, timeout_s=CLOSE_TIMEOUT_S))

    guard = PoisonGuard(limit=kafka.poison_limit, window=kafka.poison_window)
    tracing = Tracing(tracer, Names(group=kafka.group_id, client_id=settings.worker_id))
    service = IndexService(kafka, decoder, indexing, metrics, guard, tracing=tracing)
    guarantee = partial(new_guarantee, kafka, settings.worker_id, on_commit=metrics.observe_commit)
    health.starting = "preparing the producer"
    delivery = Delivery(
        kafka, service.job, guarantee, metrics, new_source=partial(Source, client_id=settings.worker_id)
    )
    watch_delivery(health, delivery, kafka)
    health.threads = (executor,)
    health.recall = lambda: indexing.why_waiting
    return delivery
