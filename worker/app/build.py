"""From the settings to the parts of a worker: the one place that knows every class."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from schemas.events import Models
from worker.answer.cache import AnswerCache, CachedAnswerer
from worker.answer.extractive import BOUNDED_MARGIN, LOGIT_MARGIN, ExtractiveAnswerer
from worker.answer.llm import LlmAnswerer
from worker.app.traces import new_tracer, observe_batch
from worker.app.watching import watch_delivery
from worker.batching.batcher import BatchReport
from worker.batching.executor import SingleThreadExecutor, compute_executor
from worker.domain import Answerer, Reranker
from worker.errors import FatalError
from worker.kafka.admin import topics
from worker.kafka.consume.source import Source
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.kafka.publish.best_effort import BestEffort
from worker.kafka.publish.guarantees import new_guarantee
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.models import resolve as models
from worker.query.early_contexts import EarlyContexts
from worker.query.job import Service
from worker.query.pipeline import Pipeline
from worker.recall.embedder import load_embedder
from worker.recall.lexical.search import new_search
from worker.recall.pointer import Readings
from worker.recall.stage import BatchedRecall
from worker.rerank.remote import RemoteReranker
from worker.rerank.scorer import load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import Settings
from worker.telemetry.health import Health
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import Names, Tracing


async def build_delivery(settings: Settings, metrics: Metrics, health: Health, parts: AsyncExitStack) -> Delivery:
    """Build what consumes; ``parts`` takes it down again, last built first. What fails fast comes first."""
    health.starting = "looking for the Kafka topics"
    await asyncio.to_thread(topics.ensure, settings.kafka, create=settings.kafka.create_topics)
    await asyncio.to_thread(topics.warn_if_dead_letters_may_not_fit, settings.kafka)

    tracer = new_tracer(settings, parts)
    observe = partial(observe_batch, metrics, tracer)

    health.starting = "loading the models"
    embedding = await asyncio.to_thread(models.resolve, "embedding", settings)
    executor = await parts.enter_async_context(compute_executor())
    reranking = await _new_reranking(settings, metrics, executor, parts, partial(observe, "rerank"))
    embedder = await executor.run(partial(load_embedder, embedding, settings))
    # Two passes of a processor only take turns; on a GPU questions need not wait for the pairs before them.
    embedding_executor = executor if embedder.on_cpu else await parts.enter_async_context(compute_executor("embed"))

    health.starting = "reaching the vector store"
    readings = Readings(partial(_show_reading, metrics, settings.recall.collection))
    recall = BatchedRecall(
        embedder,
        new_search(
            settings.recall,
            embedder,
            readings,
            on_lexical=metrics.lexical_seconds.observe,
            on_failure=partial(metrics.observe_dependency_error, "lexical"),
        ),
        settings.recall,
        on_embedded=partial(observe, "embed"),
        on_batch=partial(observe, "recall"),
        on_failure=partial(metrics.observe_dependency_error, "store"),
        executor=embedding_executor,
    )
    parts.push_async_callback(recall.close)
    await recall.start()

    answerer = _new_answerer(settings, metrics, reranking, parts)

    used = Models(embedding=embedding.name, cross_encoder=reranking.model, prior_weight=settings.rerank.prior_weight)
    metrics.models.info({"embedding": embedding.name, "cross_encoder": reranking.model, "answer": answerer.model_name})
    names = Names(
        group=settings.kafka.group_id,
        client_id=settings.worker_id,
        cross_encoder=reranking.model,
        answerer=answerer.model_name,
        asks_llm=settings.answer.base_url is not None,
    )
    tracing = Tracing(tracer, names, texts=settings.telemetry.trace_texts)
    pipeline = Pipeline(recall, reranking.reranker, answerer, settings, tracing=tracing)
    guard = PoisonGuard(limit=settings.kafka.poison_limit, window=settings.kafka.poison_window)
    reply_topics = ReplyTopics(settings.kafka, settings.worker_id)
    early = _new_early_contexts(settings, metrics, used, parts)
    service = Service(settings, pipeline, metrics, used, guard, reply_topics, tracing=tracing, early_contexts=early)
    guarantee = partial(new_guarantee, settings.kafka, settings.worker_id, on_commit=metrics.observe_commit)
    health.starting = "preparing the producer"
    new_source = partial(Source, client_id=settings.worker_id)
    delivery = Delivery(settings.kafka, service.job, guarantee, metrics, new_source=new_source)
    watch_delivery(health, delivery, settings.kafka)
    health.threads = (executor, *recall.threads, *reranking.threads)
    health.recall = lambda: recall.why_not_ready
    return delivery


def _show_reading(metrics: Metrics, default: str, name: str, reads: str) -> None:
    # Of others, which queries name, there may be any number.
    if name == default:
        metrics.collection.info({"collection": name, "reads": reads})


@dataclass(frozen=True)
class _Reranking:
    """A reranker and what answers say of it."""

    reranker: Reranker
    model: str
    sentence_margin: float
    threads: Sequence[SingleThreadExecutor] = ()
    """On which a query may hang."""


async def _new_reranking(
    settings: Settings,
    metrics: Metrics,
    executor: SingleThreadExecutor,
    parts: AsyncExitStack,
    on_batch: Callable[[BatchReport], None],
) -> _Reranking:
    rerank = settings.rerank
    if rerank.remote_url is not None:
        on_failure = partial(metrics.observe_dependency_error, "reranker")
        remote = RemoteReranker(rerank, rerank.remote_url, on_failure=on_failure)
        parts.push_async_callback(remote.close)
        await remote.check()
        margin = LOGIT_MARGIN if remote.gives_logits else BOUNDED_MARGIN
        return _Reranking(remote, rerank.model, margin)
    cross_encoder = await asyncio.to_thread(models.resolve, "cross-encoder", settings)
    scorer = await executor.run(partial(load_scorer, cross_encoder, rerank, settings.cache_dir))
    local = MicroBatchedReranker(
        scorer,
        rerank,
        prior_weight=rerank.prior_weight,
        on_batch=on_batch,
        executor=executor,
    )
    parts.push_async_callback(local.close)
    return _Reranking(local, cross_encoder.name, LOGIT_MARGIN, local.threads)


def _new_answerer(settings: Settings, metrics: Metrics, reranking: _Reranking, parts: AsyncExitStack) -> Answerer:
    answer = settings.answer
    if answer.base_url is None:
        margin = reranking.sentence_margin if answer.sentence_margin is None else answer.sentence_margin
        return ExtractiveAnswerer(
            reranking.reranker, cross_encoder=reranking.model, sentences=answer.sentences, margin=margin
        )
    if answer.model is None:
        raise FatalError("RERANK_WORKER_ANSWER__BASE_URL is set without RERANK_WORKER_ANSWER__MODEL")
    llm = LlmAnswerer(
        answer,
        model=answer.model,
        base_url=answer.base_url,
        on_circuit=metrics.llm_circuit_open.set,
        on_failure=partial(metrics.observe_dependency_error, "llm"),
    )
    parts.push_async_callback(llm.close)
    if answer.store_path is None:
        return llm
    cache = AnswerCache(answer.store_path, ttl_s=answer.store_ttl_s, max_answers=answer.store_max_answers)
    parts.push_async_callback(cache.close)
    return CachedAnswerer(
        llm, cache, answer, on_lookup=lambda outcome: metrics.answer_store_lookups.labels(outcome=outcome).inc()
    )


def _new_early_contexts(
    settings: Settings, metrics: Metrics, used: Models, parts: AsyncExitStack
) -> EarlyContexts | None:
    topic = settings.kafka.contexts_topic
    if topic is None:
        return None
    producer = BestEffort(
        settings.kafka,
        settings.worker_id,
        on_outcome=lambda outcome: metrics.contexts_events.labels(outcome=outcome).inc(),
    )
    producer.start()
    parts.push_async_callback(producer.close)
    return EarlyContexts(topic, producer, used)
