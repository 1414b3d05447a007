"""A library that says the same thing for ever is heard, and does not fill the disk."""

import logging

import pytest

from worker.telemetry.repeats import MOST_KINDS, Repeats

REFUSED = (
    "FAIL [rdkafka#{client}] [thrd:kafka:29092/bootstrap]: kafka:29092/bootstrap: Connect to ipv4#127.0.0.1:29092 "
    "failed: Connection refused (after {after}ms in state CONNECT{more})"
)


class Log:
    """A filter with a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.repeats = Repeats(10.0, clock=lambda: self.now_s)

    def write(self, message: str, *args: object, level: int = logging.ERROR) -> str | None:
        """What is written of it."""
        record = logging.LogRecord("librdkafka", level, __file__, 1, message, args, None)
        return record.getMessage() if self.repeats.filter(record) else None


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_same_is_written_once_in_an_interval_and_then_with_how_many_there_were(log: Log) -> None:
    assert log.write("broker %s is away", "a") == "broker a is away"
    for _ in range(590):
        log.now_s += 0.01
        assert log.write("broker %s is away", "a") is None
    log.now_s += 10
    assert log.write("broker %s is away", "a") == "broker a is away (and 590 like it since)"
    log.now_s += 10
    assert log.write("broker %s is away", "a") == "broker a is away"


def test_times_counts_and_numbers_of_clients_make_no_difference(log: Log) -> None:
    assert log.write(REFUSED.format(client="producer-1", after=0, more=""))
    assert log.write(REFUSED.format(client="producer-2", after=17, more="")) is None
    assert log.write(REFUSED.format(client="consumer-3", after=1, more="")) is None
    assert log.write(REFUSED.format(client="producer-1", after=0, more=", 3 identical error(s) suppressed"))
    assert log.write(REFUSED.format(client="producer-1", after=0, more=", 9 identical error(s) suppressed")) is None


def test_another_broker_and_another_severity_are_other_news(log: Log) -> None:
    assert log.write("kafka-1:9092/1 is away")
    assert log.write("kafka-2:9092/2 is away")
    assert log.write("kafka-1:9092/1 is away", level=logging.WARNING)


def test_what_is_remembered_is_bounded(log: Log) -> None:
    for number in range(MOST_KINDS + 1):
        assert log.write("partition %s is gone", number)
    assert log.write("partition %s is gone", MOST_KINDS) is None
    assert log.write("partition %s is gone", 0), "the oldest was forgotten"
