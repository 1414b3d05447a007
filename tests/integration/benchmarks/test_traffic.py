"""The traffic beside the bare scorer does on a real broker what it says."""

from collections.abc import Callable
from contextlib import closing

import pytest

from benchmarks.bare import event
from benchmarks.traffic import Traffic
from tests.patience import HANG_S
from tests.topics import committed, held
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow

EVENTS = 5


@pytest.fixture
def kafka(kafka_settings: Callable[..., KafkaSettings]) -> KafkaSettings:
    return kafka_settings()


def test_events_are_answered_at_the_rate_while_it_flows_and_at_once_afterwards(kafka: KafkaSettings) -> None:
    with closing(Traffic(kafka, b"an answer")) as traffic:
        with traffic.flowing(event(0), 1 / HANG_S, EVENTS):
            assert len(held(kafka, kafka.answer_topic)) == 1
            assert len(held(kafka, kafka.query_topic)) == EVENTS
        assert [answer.value() for answer in held(kafka, kafka.answer_topic)] == [b"an answer"] * EVENTS
    assert committed(kafka) == EVENTS


def test_traffic_that_ended_before_what_it_should_accompany_is_told(kafka: KafkaSettings) -> None:
    with (
        closing(Traffic(kafka, b"an answer")) as traffic,
        pytest.raises(RuntimeError, match="too few"),
        traffic.flowing(event(0), per_second=1e6, events=EVENTS) as observer,
    ):
        observer.await_count(EVENTS)
