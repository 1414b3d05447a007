"""Which delivery guarantee the settings ask for; short, for it is the one place that knows both of them."""

from collections.abc import Callable

from worker.kafka.consume.source import Source
from worker.kafka.deliver.outcome import Guarantee
from worker.kafka.publish.at_least_once import AtLeastOnce
from worker.kafka.publish.exactly_once import ExactlyOnce
from worker.kafka.publish.idempotent_producer import IdempotentProducer
from worker.kafka.publish.transactional_producer import TransactionalProducer
from worker.resilience.retry import RetryPolicy
from worker.settings import KafkaSettings

FIRST_RETRY_S = 0.5


def new_guarantee(
    kafka: KafkaSettings, worker_id: str, source: Source, *, on_commit: Callable[[str], None] = lambda _: None
) -> Guarantee:
    """Return the guarantee with a producer of its own; ``worker_id`` must be this process's alone.

    ``on_commit``: see ``ExactlyOnce``. At least once it is the source that commits, and tells of it.
    """
    if kafka.delivery_guarantee == "exactly_once":
        producer = TransactionalProducer(kafka, f"{kafka.group_id}-{worker_id}", client_id=worker_id)
        return ExactlyOnce(kafka, source, producer, publish_policy(kafka), on_commit)
    return AtLeastOnce(source, IdempotentProducer(kafka, worker_id), publish_policy(kafka))


def publish_policy(kafka: KafkaSettings) -> RetryPolicy:
    """Return how an outcome is tried again: without end, for giving it up would lose it; the pauses are capped."""
    return RetryPolicy(first_pause_s=FIRST_RETRY_S, longest_pause_s=kafka.publish_retry_max_s)
