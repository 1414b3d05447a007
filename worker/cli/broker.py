"""The Kafka settings of a command that talks to the broker. Short: one thing, which such commands share."""

from typing import TYPE_CHECKING

from worker.cli.terminal import err

if TYPE_CHECKING:
    from worker.settings import KafkaSettings


def reachable_kafka() -> "KafkaSettings":
    """Return the settings in force; FatalError within seconds if nobody listens where the brokers should be."""
    from worker.kafka.admin.reach import require_reachable
    from worker.settings.load import load_settings

    kafka = load_settings().kafka
    with err.status(f"connecting to {kafka.bootstrap_servers}"):
        require_reachable(kafka)
    return kafka
