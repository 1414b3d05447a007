"""What the topics take, as made and as found; on real Kafka."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType
from structlog.testing import capture_logs

from tests.integration.kafka.conftest import Bench
from tests.patience import HANG_S
from worker.kafka.admin.topics import DEAD_LETTER_ROOM, MAX_MESSAGE_BYTES, ensure, warn_if_dead_letters_may_not_fit
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow


def limit(bench: Bench, topic: str) -> int:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    described = bench.admin.describe_configs([resource], request_timeout=HANG_S)[resource]
    return int(described.result(HANG_S)[MAX_MESSAGE_BYTES].value)


def warnings(kafka: KafkaSettings) -> list[str]:
    with capture_logs() as logs:
        warn_if_dead_letters_may_not_fit(kafka)
    return [log["command"] for log in logs if log["log_level"] == "warning"]


def test_a_dead_letter_topic_is_made_to_take_any_event_and_more(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(partitions=1)
    bench.delete_topic(bench.kafka.dead_letter_topic)
    bench.configure_topic(bench.kafka.query_topic, max_message_bytes="2000000")
    ensure(bench.kafka, create=True)
    assert limit(bench, bench.kafka.dead_letter_topic) == 2 * 2_000_000 + DEAD_LETTER_ROOM
    assert warnings(bench.kafka) == []


def test_one_that_takes_less_is_told_with_the_command_that_helps(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(partitions=1)
    bench.configure_topic(bench.kafka.dead_letter_topic, max_message_bytes="10000")
    [command] = warnings(bench.kafka)
    assert f"--topic {bench.kafka.dead_letter_topic} --add-config {MAX_MESSAGE_BYTES}=" in command
