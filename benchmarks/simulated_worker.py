"""SIMULATION: the real worker loop with recall and accelerator replaced, for benchmarks of all the rest.

Recall returns fixed candidates; the scorer holds a simulated accelerator for a fixed time per batch (it sleeps, so
the CPU is free), or with ``--pairs-per-s`` it is the worker's own on a simulated device. Kafka, delivery, pipeline,
micro-batches, telemetry and logs are the worker's own.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from benchmarks.simulated_device import RERANK, KnownRecall, known_queries, settle_heap, simulated_scorer
from schemas.events import Models
from worker.app.traces import new_tracer, observe_batch
from worker.domain import Candidate, Context, GeneratedAnswer, Query, Recall, Recalled
from worker.errors import TransientError
from worker.kafka.deliver.delivery import Delivery
from worker.kafka.deliver.in_flight import PoisonGuard
from worker.kafka.publish.guarantees import new_guarantee
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.job import Service
from worker.query.pipeline import Pipeline
from worker.rerank.backends.device import OTHER_BATCH_TOKENS, Batches, Pending
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.pairs.tokenizer import Asked
from worker.rerank.scorer import Scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import Settings, TelemetrySettings
from worker.telemetry import http, logs
from worker.telemetry.health import Health
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import Names, Tracing

MODEL = "simulation"
BATCH_PAIRS = 64
TOKENS = 100
PASSAGE = "A passage of middling length, such as a vector store might return for a question. " * 5
PASSAGES = [f"{rank}. {PASSAGE}" for rank in range(1_001)]
"""One a rank: of equal ones the stage would score one."""

logger = structlog.get_logger()


class FixedRecall:
    """Implements ``Recall``: the same passages for every query."""

    async def recall(self, query: Query) -> Recalled:
        return Recalled(Candidate(f"d{rank}", PASSAGES[rank], rank, 0.5, 0.5) for rank in range(1, query.top_k + 1))


class SimulatedAccelerator:
    """Implements ``Scorer``: a batch takes ``hold_s``, however large it is."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s

    @property
    def batches(self) -> Batches:
        return Batches(padded=True, tokens=OTHER_BATCH_TOKENS, pairs=BATCH_PAIRS, under_way=1)

    @property
    def model_name(self) -> str:
        return MODEL

    def encode_all(self, asked: Sequence[Asked]) -> list[list[EncodedPair]]:
        return [self._encode(len(documents)) for _, documents in asked]

    def _encode(self, documents: int) -> list[EncodedPair]:
        ids = np.ones((documents, TOKENS), np.int32)
        ids[:, 0] = np.arange(documents)
        return [EncodedPair(row, row, number) for number, row in enumerate(ids)]

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        return [(0, len(document)) for document, _ in zip(documents, windows, strict=True)]

    def start(self, pairs: Sequence[EncodedPair]) -> Pending:
        if self._hold_s > 0:
            time.sleep(self._hold_s)
        scores = [float(pair.input_ids[0]) for pair in pairs]
        return lambda: scores


class NoAnswerer:
    """Implements ``Answerer`` as an LLM does that is away; the benchmarks' events want no answer."""

    model_name = MODEL

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        raise TransientError(f"no LLM for {query.id} and its {len(contexts)} contexts: ask with generate=false")


async def run(settings: Settings, recall: Recall, scorer: Scorer) -> None:
    logs.configure(settings.telemetry)
    metrics = Metrics(CollectorRegistry())
    health = Health()
    async with AsyncExitStack() as parts:
        tracer = new_tracer(settings, parts)
        names = Names(settings.kafka.group_id, settings.worker_id, MODEL, MODEL)
        tracing = Tracing(tracer, names)
        reranker = MicroBatchedReranker(
            scorer, settings.rerank, prior_weight=0, on_batch=partial(observe_batch, metrics, tracer, "rerank")
        )
        pipeline = Pipeline(recall, reranker, NoAnswerer(), settings, tracing=tracing)
        models = Models(embedding=MODEL, cross_encoder=MODEL, prior_weight=0)
        guard = PoisonGuard(limit=1, window=200)
        service = Service(settings, pipeline, metrics, models, guard, ReplyTopics(settings.kafka), tracing=tracing)
        guarantee = partial(new_guarantee, settings.kafka, settings.worker_id)
        delivery = Delivery(settings.kafka, service.job, guarantee, metrics)
        with http.serve(settings.telemetry, metrics.registry, health):
            logger.info("joining", unix_s=time.time())
            await delivery.run(asyncio.Event(), before_joining=settle_heap)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker-id", default="simulated")
    parser.add_argument("--hold-s", type=float, default=0.0)
    parser.add_argument("--pairs-per-s", type=float)
    parser.add_argument("--otlp-endpoint", help="traces go there; default: none are made")
    parser.add_argument("--trace-ratio", type=float, default=1.0)
    options = parser.parse_args()
    telemetry = TelemetrySettings(
        host="127.0.0.1", port=0, otlp_endpoint=options.otlp_endpoint, trace_ratio=options.trace_ratio
    )
    if options.pairs_per_s is None:
        settings = Settings(worker_id=options.worker_id, telemetry=telemetry)
        asyncio.run(run(settings, FixedRecall(), SimulatedAccelerator(options.hold_s)))
    else:
        settings = Settings(worker_id=options.worker_id, telemetry=telemetry, rerank=RERANK)
        asyncio.run(run(settings, KnownRecall(known_queries()), simulated_scorer(options.pairs_per_s)))


if __name__ == "__main__":
    main()
