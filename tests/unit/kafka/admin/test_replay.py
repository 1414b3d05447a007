"""A replay sends each event once, remembers it, and never elsewhere; on librdkafka's own broker."""

from collections.abc import Callable, Iterable

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.patience import HANG_S
from tests.unit.kafka.admin.conftest import ELSEWHERE, PARTITIONS
from worker.errors import FatalError
from worker.kafka.admin import replay as module
from worker.kafka.admin.dead_letters import Wanted
from worker.kafka.admin.replay import ReplayedOffsets, plan, replay
from worker.kafka.config import common_config
from worker.settings import KafkaSettings

Put = Callable[..., None]


def sent(kafka: KafkaSettings, topic: str | None = None) -> list[str]:
    """The keys of what a topic, if not told the query topic, holds now."""
    consumer = Consumer(
        common_config(kafka) | {"group.id": "reader", "enable.partition.eof": True, "fetch.wait.max.ms": 10}
    )
    consumer.assign([TopicPartition(topic or kafka.query_topic, number, 0) for number in range(PARTITIONS)])
    keys, ended = [], 0
    while ended < PARTITIONS:
        message = consumer.poll(HANG_S)
        assert message is not None
        if message.error():
            ended += 1
        else:
            keys.append((message.key() or b"").decode())
    consumer.close()
    return sorted(keys)


def again(kafka: KafkaSettings, wanted: Wanted | None = None, **options: object) -> int:
    return replay(kafka, plan(kafka, wanted or Wanted(), **options))


def test_what_was_sent_is_not_sent_again_and_what_came_since_is(kafka: KafkaSettings, put: Put) -> None:
    put("a", partition=0)
    put("b", partition=2)
    assert again(kafka) == 2
    assert plan(kafka, Wanted()).letters == []
    assert again(kafka) == 0
    put("c", partition=2)
    assert again(kafka) == 1
    assert sent(kafka) == ["a", "b", "c"]


def test_a_choice_by_reason_leaves_the_others_for_later(kafka: KafkaSettings, put: Put) -> None:
    for name, reason in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")):
        put(name, error_class=reason)
    assert again(kafka, Wanted(reason="y")) == 2
    assert again(kafka, Wanted(reason="x"), limit=1) == 1
    assert again(kafka) == 1
    assert sent(kafka) == ["a", "b", "c", "d"]


def test_all_sends_again_what_was_sent(kafka: KafkaSettings, put: Put) -> None:
    put("a")
    assert again(kafka) == 1
    assert plan(kafka, Wanted()).left_out == {"replayed before (--all sends them again)": 1}
    assert again(kafka, again=True) == 1
    assert sent(kafka) == ["a", "a"]


def test_what_was_tried_often_enough_is_left_out(kafka: KafkaSettings, put: Put) -> None:
    put("often", attempts=3)
    put("once", attempts=1)
    assert again(kafka, max_attempts=3) == 1
    assert sent(kafka) == ["once"]


def test_a_note_of_an_event_that_was_too_large_is_not_sent_as_a_tombstone_and_the_others_are(
    kafka: KafkaSettings, put: Put
) -> None:
    put("before")
    put("large", omitted=True)
    put("after")
    chosen = plan(kafka, Wanted())
    assert [why for why in chosen.left_out if "too large" in why and kafka.query_topic in why]
    assert replay(kafka, chosen) == 2
    assert sent(kafka) == ["after", "before"]


def test_a_header_can_not_send_an_event_to_a_topic_that_is_not_ours(kafka: KafkaSettings, put: Put) -> None:
    put("theirs", topic=ELSEWHERE)
    put("ours")
    chosen = plan(kafka, Wanted())
    assert chosen.left_out == {f"from another topic than {kafka.query_topic}": 1}
    assert replay(kafka, chosen) == 1
    assert (sent(kafka), sent(kafka, ELSEWHERE)) == (["ours"], [])


def test_nothing_is_sent_that_could_not_be_remembered(
    kafka: KafkaSettings, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reason in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")):
        put(name, error_class=reason)
    monkeypatch.setattr(module, "MAX_METADATA_BYTES", 2)
    with pytest.raises(FatalError, match="more gaps"):
        again(kafka, Wanted(reason="y"))
    assert sent(kafka) == []


def seen(offsets: Iterable[tuple[int, bool]], replayed: ReplayedOffsets) -> ReplayedOffsets:
    for offset, chosen in offsets:
        replayed.see(offset, replayed=chosen or offset in replayed)
    return replayed


@given(st.lists(st.dictionaries(st.integers(0, 60), st.booleans()), max_size=4))
def test_the_memory_holds_what_was_replayed_and_nothing_else(passes: list[dict[int, bool]]) -> None:
    letters = sorted({offset for each in passes for offset in each})
    replayed, expected = ReplayedOffsets(), set()
    for chosen in passes:
        replayed = seen([(offset, chosen.get(offset, False)) for offset in letters], replayed)
        expected |= {offset for offset, wanted in chosen.items() if wanted}
        # As it comes back from the broker.
        replayed = ReplayedOffsets(replayed.position, replayed.metadata)
        assert {offset for offset in letters if offset in replayed} == expected


def test_the_position_is_below_all_that_is_left_and_gaps_without_letters_cost_nothing() -> None:
    # Transactions leave a marker after each letter.
    replayed = seen([(offset, True) for offset in range(0, 100, 2)], ReplayedOffsets())
    assert (replayed.position, replayed.metadata) == (99, "")
    replayed = seen([(0, True), (2, False), (4, True), (6, True), (8, False), (10, True)], ReplayedOffsets())
    assert (replayed.position, replayed.metadata) == (1, "4-6,10")
