"""Short: whether a worker records traces, where they go, and that its batches are in them."""

import asyncio
from contextlib import AsyncExitStack

from opentelemetry.trace import Tracer

from worker.batching.batcher import BatchReport
from worker.settings import Settings
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import record_batch


def new_tracer(settings: Settings, parts: AsyncExitStack) -> Tracer | None:
    """Return what begins spans; None where nobody is to get them. ``parts`` sends the last of them."""
    telemetry = settings.telemetry
    if telemetry.otlp_endpoint is None:
        return None
    from worker.telemetry import otlp  # noqa: PLC0415 - loads grpc, which few need

    processor = otlp.otlp_processor(telemetry.otlp_endpoint)
    provider = otlp.new_provider(processor, worker_id=settings.worker_id, ratio=telemetry.trace_ratio)
    parts.push_async_callback(asyncio.to_thread, otlp.close, provider)
    return provider.get_tracer("rerank-worker")


def observe_batch(metrics: Metrics, tracer: Tracer | None, batcher: str, report: BatchReport) -> None:
    """Put a micro-batch that has just run into the metrics, and into the traces if there are any."""
    metrics.observe_batch(
        batcher,
        items=report.items,
        cost=report.cost,
        padded_cost=report.padded_cost,
        seconds=report.seconds,
        wait_s=report.wait_s,
        budget=report.budget,
    )
    if tracer is not None:
        record_batch(tracer, batcher, seconds=report.seconds, items=report.items, cost=report.cost, marks=report.marks)
