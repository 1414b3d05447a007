"""What operators see of a worker, whatever it does: its delivery's health, its batches' figures. Short: one look."""

from opentelemetry.trace import Tracer

from worker.batching.batcher import BatchReport
from worker.kafka.deliver.delivery import Delivery
from worker.settings import KafkaSettings
from worker.telemetry.health import Health
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import record_batch


def watch_delivery(health: Health, delivery: Delivery, kafka: KafkaSettings) -> None:
    """Let the probes ask this delivery."""
    health.joined = lambda: delivery.joined
    health.brokers_down = lambda: delivery.source.brokers_down
    # A quiet topic is polled that seldom.
    health.poll_age_s = lambda: delivery.source.poll_age_s() - kafka.poll_timeout_s
    health.stopped = lambda: delivery.why_stopped
    health.progress = lambda: delivery.progress


def observe_batch(metrics: Metrics, tracer: Tracer | None, batcher: str, report: BatchReport) -> None:
    """Put a batch that has run into the metrics, and into a trace if there is one to be had."""
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
