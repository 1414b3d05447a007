"""Which delivery guarantee the settings ask for; short, for it is the one place that knows both of them."""

from worker.kafka.consume.source import Source
from worker.kafka.deliver.guarantee import Guarantee
from worker.kafka.publish.at_least_once import AtLeastOnce
from worker.kafka.publish.exactly_once import ExactlyOnce
from worker.kafka.publish.producer import Sink
from worker.kafka.publish.transactional_producer import TransactionalProducer
from worker.settings import KafkaSettings


def new_guarantee(kafka: KafkaSettings, worker_id: str, source: Source) -> Guarantee:
    """Return the guarantee with a producer of its own; ``worker_id`` must be this process's alone."""
    if kafka.delivery_guarantee == "exactly_once":
        return ExactlyOnce(kafka, source, TransactionalProducer(kafka, f"{kafka.group_id}-{worker_id}"))
    return AtLeastOnce(kafka, source, Sink(kafka))
