"""Faults that only a world of queries has: to the topic they are asked on, to the LLM, and odd queries themselves."""

import json
from random import Random
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewPartitions, NewTopic

from schemas.limits import MAX_FILTER_OPERANDS
from tests.faults.faults import NOT_DONE, TO_BROKERS, TO_STORE, TO_WORKERS, Fault, Faults, registering, wait
from tests.faults.traffic import POISON
from tests.faults.world import TOPIC_MADE_AGAIN, World
from tests.patience import HANG_S
from worker.kafka.consume.offsets import LogId
from worker.local.process import await_condition

MAX_PARTITIONS = 8

TO_TOPIC: dict[str, Fault[World]] = {}
"""Beside those to Kafka: what happens to the query topic."""
TO_DEPENDENCIES: dict[str, Fault[World]] = {}
"""Beside those to the store: what happens to the LLM, and what is asked."""


def _ill_llm(mood: Literal["busy", "broken", "silent", "babbling", "sick"]) -> Fault[World]:
    def fault(world: World, random: Random) -> str:
        seconds = random.uniform(1, 4)
        world.llm.fall_ill(mood)
        try:
            wait(seconds)
        finally:
            world.llm.heal()
        return f"for {seconds:.1f} s"

    fault.__name__ = f"llm_{mood}"
    return fault


for _mood in ("busy", "broken", "silent", "babbling", "sick"):
    registering(TO_DEPENDENCIES)(_ill_llm(_mood))


@registering(TO_TOPIC)
def topic_made_again(world: World, random: Random) -> str:
    """The query topic is deleted with what is in it, and created at once; what is asked then must be answered."""
    world.disruptions[TOPIC_MADE_AGAIN] += 1
    topic = world.kafka.query_topic
    with world.traffic.stopped():
        # Now and then all of it is done with before: what is deleted unanswered proves nothing.
        if random.random() < 0.5:
            await_condition(lambda: world.observer.progress[1] == 0, timeout_s=random.uniform(1, 20))
        _make_again(world, topic)
    return topic


def _make_again(world: World, topic: str) -> None:
    former = _log_of(world, topic, other_than=None)
    with world.observer.not_looking():
        world.admin.delete_topics([topic], operation_timeout=HANG_S)[topic].result(HANG_S)
        await_condition(lambda: _created(world, topic), timeout_s=HANG_S)
        world.observer.believe(_log_of(world, topic, other_than=former))


def _log_of(world: World, topic: str, *, other_than: LogId | None) -> LogId:
    while True:
        described = world.admin.describe_topics(TopicCollection([topic]))[topic]
        # A broker may be asked that has not heard yet of the new topic, or of the end of the former one: believing
        # that, the observer took commits of the former one for early ones of the new.
        if described.exception(HANG_S) is None:
            log = LogId("", str(described.result().topic_id))
            if log != other_than:
                return log


def _created(world: World, topic: str) -> bool:
    new = NewTopic(topic, world.kafka.partitions, world.kafka.replication_factor)
    try:
        world.admin.create_topics([new], operation_timeout=HANG_S)[topic].result(HANG_S)
    except KafkaException as error:
        # The old one is on its way, or this is the second try of a first that was not answered.
        known = world.admin.list_topics(timeout=HANG_S).topics
        return error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS and topic in known
    return True


@registering(TO_DEPENDENCIES)
def odd_headers(world: World, random: Random) -> str:
    """A burst of queries with a header whose name no Python client can read: a dead letter each."""
    count = random.randint(1, 50)
    world.traffic.ask_at_once(lambda number: _query(f"{POISON} {number}"), count, [(b"caf\xe9", b"x")])
    return f"{count} of them"


@registering(TO_DEPENDENCIES)
def huge_filters(world: World, random: Random) -> str:
    """A burst of queries whose filters no store can take: a dead letter each, and nobody else waits for them."""
    count = random.randint(1, 50)
    where = {"$or": [{"topic": f"t{number}"} for number in range(random.choice([300, 1_500]))]}
    world.traffic.ask_at_once(lambda number: _query(f"{POISON} {number}", where), count, ())
    return f"{count} of them, {len(where['$or']):,} comparisons each"


@registering(TO_DEPENDENCIES)
def large_filters(world: World, random: Random) -> str:
    """A burst of queries with the largest filters there may be: answered, as all are."""
    count = random.randint(1, 20)
    where = {"$or": [{"topic": f"t{number}"} for number in range(MAX_FILTER_OPERANDS)]}
    world.traffic.ask_at_once(lambda number: _query(f"q{number}", where), count, ())
    return f"{count} of them"


def _query(query_id: str, where: dict[str, Any] | None = None) -> bytes:
    # Not through the contract, which refuses some of them.
    return json.dumps({"id": query_id, "text": "capital of france", "generate": False, "where": where}).encode()


@registering(TO_DEPENDENCIES)
def partitions_added(world: World, _: Random) -> str:
    """The query topic gets one partition more, while events are produced to it."""
    topic = world.kafka.query_topic
    count = len(world.admin.list_topics(topic, timeout=HANG_S).topics[topic].partitions)
    if count >= MAX_PARTITIONS:
        return f"{NOT_DONE}: there are {count}"
    world.admin.create_partitions([NewPartitions(topic, count + 1)], request_timeout=HANG_S)[topic].result(HANG_S)
    return f"now {count + 1}"


LANES: list[Faults[World]] = [TO_WORKERS, {**TO_BROKERS, **TO_TOPIC}, {**TO_STORE, **TO_DEPENDENCIES}]
"""Faults of one lane never overlap: each would undo the other's harm."""
FAULTS: Faults[World] = {name: fault for lane in LANES for name, fault in lane.items()}
