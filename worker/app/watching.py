"""Short: what the probes ask of a delivery, whatever it delivers."""

from worker.kafka.deliver.delivery import Delivery
from worker.settings import KafkaSettings
from worker.telemetry.health import Health


def watch_delivery(health: Health, delivery: Delivery, kafka: KafkaSettings) -> None:
    """Let the probes ask this delivery."""
    health.joined = lambda: delivery.joined
    health.brokers_down = lambda: delivery.source.brokers_down
    # A quiet topic is polled that seldom.
    health.poll_age_s = lambda: delivery.source.poll_age_s() - kafka.poll_timeout_s
    health.stopped = lambda: delivery.why_stopped
    health.progress = lambda: delivery.progress
