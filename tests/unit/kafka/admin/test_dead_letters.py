"""What `dlq list` shows, on librdkafka's own broker; the rest runs against a real one."""

from collections.abc import Callable

from worker.kafka.admin.dead_letters import Wanted, oldest
from worker.settings import KafkaSettings

Put = Callable[..., None]


def test_they_are_listed_by_time_whatever_their_partition_and_what_is_left_is_counted(
    kafka: KafkaSettings, put: Put
) -> None:
    for number, partition in enumerate([2, 0, 1, 0, 2]):
        put(f"q{number}", partition=partition, at_s=1_000 + number)
    put("same time", partition=0, at_s=1_001)
    for _ in range(3):
        letters, count = oldest(kafka, Wanted(), 4)
        assert [letter.query_id for letter in letters] == ["q0", "q1", "same time", "q2"]
        assert count == 6


def test_only_those_wanted_are_counted(kafka: KafkaSettings, put: Put) -> None:
    put("a", error_class="invalid_json")
    put("b")
    [letter], count = oldest(kafka, Wanted(reason="tombstone"), 5)
    assert (letter.query_id, count) == ("b", 1)


def test_an_event_without_an_id_has_none(kafka: KafkaSettings, put: Put) -> None:
    put('"')
    [letter], _ = oldest(kafka, Wanted(), 1)
    assert letter.query_id is None
