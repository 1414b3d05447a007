"""The faults: each does its harm, undoes it, and returns a few words about it. Blocking."""

import json
import threading
from collections.abc import Callable
from random import Random
from typing import Any, Literal

from confluent_kafka import Consumer, ElectionType, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from schemas.limits import MAX_FILTER_OPERANDS
from tests.faults.cluster import Broker
from tests.faults.supervisor import Member
from tests.faults.traffic import POISON
from tests.faults.world import HANG_TIMEOUT_S, SESSION_TIMEOUT_S, TOPIC_MADE_AGAIN, World
from tests.patience import HANG_S
from worker.kafka.config import consumer_config
from worker.kafka.consume.offsets import LogId
from worker.local.process import await_condition

Fault = Callable[[World, Random], str]

TO_WORKERS: dict[str, Fault] = {}
"""What happens to the consumer group."""
TO_BROKERS: dict[str, Fault] = {}
"""What happens to Kafka and the way to it."""
TO_DEPENDENCIES: dict[str, Fault] = {}
"""What happens to all else that the workers live on."""
LANES = (TO_WORKERS, TO_BROKERS, TO_DEPENDENCIES)
"""Faults of one lane never overlap: each would undo the other's harm."""

NOT_DONE = "not done"
"""How the words about a fault begin that did not happen."""

# What a worker that hangs has for its end, and its orchestrator to notice; busy machines take longer.
CLOSE_S = 60.0
GROUP_OFFSETS = "__consumer_offsets"
MAX_PARTITIONS = 8
# More replicas than there are: no write to the topic can be acknowledged.
IMPOSSIBLE_REPLICAS = "4"


def _register(faults: dict[str, Fault]) -> Callable[[Fault], Fault]:
    def add(fault: Fault) -> Fault:
        faults[fault.__name__.replace("_", "-")] = fault
        return fault

    return add


def _wait(seconds: float) -> None:
    # The length of a fault is part of it.
    threading.Event().wait(seconds)


def _some_member(world: World, random: Random) -> Member:
    member = random.choice(world.supervisor.members)
    member.await_ready()
    return member


@_register(TO_WORKERS)
def worker_kill(world: World, random: Random) -> str:
    """Kill -9: nothing is committed or said; the orchestrator starts another."""
    member = _some_member(world, random)
    member.kill()
    return member.name


@_register(TO_WORKERS)
def worker_stop(world: World, random: Random) -> str:
    """SIGTERM: it drains; the orchestrator starts another."""
    member = _some_member(world, random)
    member.terminate()
    return member.name


@_register(TO_WORKERS)
def worker_freeze(world: World, random: Random) -> str:
    """Stand still until the group has given the partitions to others, then go on as if nothing had been."""
    member = _some_member(world, random)
    return _stand_still(member, SESSION_TIMEOUT_S + random.uniform(1, 3))


@_register(TO_WORKERS)
def worker_hiccup(world: World, random: Random) -> str:
    """Stand still for less than the session timeout."""
    member = _some_member(world, random)
    return _stand_still(member, random.uniform(0.5, SESSION_TIMEOUT_S / 2))


def _stand_still(member: Member, seconds: float) -> str:
    member.freeze()
    try:
        _wait(seconds)
    finally:
        member.thaw()
    return f"{member.name} for {seconds:.1f} s"


@_register(TO_WORKERS)
def worker_hang(world: World, random: Random) -> str:
    """Its compute thread never comes back: it ends itself after its time, and the orchestrator starts another."""
    member = _some_member(world, random)
    ends = len(member.exits)
    member.hang()
    ended = await_condition(lambda: len(member.exits) > ends, timeout_s=HANG_TIMEOUT_S + CLOSE_S)
    if not ended:
        # It hangs with its next query; that it may be without one is no fault of its own.
        return f"{member.name}, which has had nothing to score"
    return f"{member.name} ended itself with {member.exits[ends]}"


@_register(TO_WORKERS)
def rebalance_storm(world: World, random: Random) -> str:
    """A member that joins and leaves every second; it takes partitions and does nothing with them."""
    rounds = random.randint(2, 4)
    guest_of = world.kafka.model_copy(update={"group_protocol": world.promise.protocol})
    for _ in range(rounds):
        guest = Consumer(consumer_config(guest_of) | {"log_level": 0})
        guest.subscribe([guest_of.query_topic])
        # Polling makes it join; paused at once, it reads nothing.
        ended = threading.Event()
        timer = threading.Timer(1.0, ended.set)
        timer.start()
        while not ended.is_set():
            guest.poll(0.1)
            guest.pause(guest.assignment())
        timer.join(10)
        guest.close()
    return f"{rounds} times"


@_register(TO_BROKERS)
def broker_restart(world: World, random: Random) -> str:
    """A broker shuts down in order, hands its leaderships over, and comes back."""
    return _restart(world, random.choice(world.cluster.brokers[1:]), world.cluster.stop, random)


@_register(TO_BROKERS)
def broker_kill(world: World, random: Random) -> str:
    """A broker dies and comes back."""
    return _restart(world, random.choice(world.cluster.brokers[1:]), world.cluster.kill, random)


@_register(TO_BROKERS)
def coordinator_restart(world: World, random: Random) -> str:
    """The broker that coordinates the group, if it may be stopped, restarts: commits and rebalances must move."""
    offsets = world.admin.list_topics(GROUP_OFFSETS, timeout=HANG_S).topics[GROUP_OFFSETS].partitions
    coordinator = offsets[_java_hash(world.kafka.group_id) % len(offsets)].leader
    brokers = {broker.number: broker for broker in world.cluster.brokers[1:]}
    if coordinator not in brokers:
        return f"{NOT_DONE}: it is with the controller, which stays"
    return _restart(world, brokers[coordinator], world.cluster.stop, random)


def _java_hash(text: str) -> int:
    """String.hashCode made positive: which partition keeps a group's offsets (Kafka's GroupCoordinatorService)."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFF_FFFF
    return value & 0x7FFF_FFFF


def _restart(world: World, broker: Broker, end: Callable[[Broker], None], random: Random) -> str:
    end(broker)
    try:
        _wait(random.uniform(0, 2))
    finally:
        world.cluster.start(broker)
    return f"broker {broker.number}"


@_register(TO_BROKERS)
def leader_change(world: World, random: Random) -> str:
    """Leaderships go back to the brokers they were given to at first: after restarts, most of them move."""
    topics = (world.kafka.query_topic, world.kafka.answer_topic, world.kafka.dead_letter_topic)
    known = world.admin.list_topics(timeout=HANG_S).topics
    # A broker may not have heard yet of a topic that has just been made again.
    found = [known[topic] for topic in topics if topic in known]
    partitions = [TopicPartition(topic.topic, number) for topic in found for number in topic.partitions]
    random.shuffle(partitions)
    # With `request_timeout` the client of 2.16 fails (SystemError).
    elected = world.admin.elect_leaders(ElectionType.PREFERRED, partitions).result(HANG_S)
    return f"{sum(error is None for error in elected.values())} moved"


@_register(TO_BROKERS)
def network_cut(world: World, random: Random) -> str:
    """Nothing passes between the workers and some brokers, and nobody is told."""
    brokers = random.sample(world.cluster.brokers, random.randint(1, 3))
    seconds = random.choice([1.0, 3.0, SESSION_TIMEOUT_S + 2])
    for broker in brokers:
        broker.proxy.cut()
    try:
        _wait(seconds)
    finally:
        for broker in brokers:
            broker.proxy.heal()
    return f"to {len(brokers)} of 3 brokers for {seconds:g} s"


@_register(TO_BROKERS)
def network_reset(world: World, _: Random) -> str:
    """Every connection of the workers ends at once."""
    for broker in world.cluster.brokers:
        broker.proxy.reset()
    return "every connection"


@_register(TO_BROKERS)
def network_slow(world: World, random: Random) -> str:
    """Each way takes long."""
    delay_s = random.choice([0.05, 0.3])
    for broker in world.cluster.brokers:
        broker.proxy.slow(delay_s)
    try:
        _wait(random.uniform(1, 3))
    finally:
        for broker in world.cluster.brokers:
            broker.proxy.heal()
    return f"{delay_s * 1000:g} ms each way"


@_register(TO_DEPENDENCIES)
def chroma_restart(world: World, random: Random) -> str:
    """The vector store goes away and comes back."""
    seconds = random.uniform(0, 3)
    world.chroma.stop()
    try:
        _wait(seconds)
    finally:
        world.chroma.start()
    return f"away for {seconds:.1f} s and its start"


def _ill_llm(mood: Literal["busy", "broken", "silent", "babbling", "sick"]) -> Fault:
    def fault(world: World, random: Random) -> str:
        seconds = random.uniform(1, 4)
        world.llm.fall_ill(mood)
        try:
            _wait(seconds)
        finally:
            world.llm.heal()
        return f"for {seconds:.1f} s"

    fault.__name__ = f"llm_{mood}"
    return fault


for _mood in ("busy", "broken", "silent", "babbling", "sick"):
    _register(TO_DEPENDENCIES)(_ill_llm(_mood))


@_register(TO_DEPENDENCIES)
def dead_letters_unwritable(world: World, random: Random) -> str:
    """The dead-letter topic takes nothing: partitions with poison stop, and go on when it does again."""
    seconds = random.uniform(1, 6)
    topic = world.kafka.dead_letter_topic
    world.configure_topic(topic, "min.insync.replicas", IMPOSSIBLE_REPLICAS)
    try:
        _wait(seconds)
    finally:
        await_condition(lambda: _configured(world, topic), timeout_s=HANG_S)
    return f"for {seconds:.1f} s"


def _configured(world: World, topic: str) -> bool:
    # A broker may be restarting in the other lane; the harm must be undone all the same.
    try:
        world.configure_topic(topic, "min.insync.replicas", "2")
    except KafkaException:
        return False
    return True


@_register(TO_BROKERS)
def topic_made_again(world: World, random: Random) -> str:
    """The query topic is deleted with what is in it, and created at once; what is asked then must be answered."""
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


@_register(TO_DEPENDENCIES)
def odd_headers(world: World, random: Random) -> str:
    """A burst of queries with a header whose name no Python client can read: a dead letter each."""
    count = random.randint(1, 50)
    world.traffic.ask_at_once(lambda number: _query(f"{POISON} {number}"), count, [(b"caf\xe9", b"x")])
    return f"{count} of them"


@_register(TO_DEPENDENCIES)
def huge_filters(world: World, random: Random) -> str:
    """A burst of queries whose filters no store can take: a dead letter each, and nobody else waits for them."""
    count = random.randint(1, 50)
    where = {"$or": [{"topic": f"t{number}"} for number in range(random.choice([300, 1_500]))]}
    world.traffic.ask_at_once(lambda number: _query(f"{POISON} {number}", where), count, ())
    return f"{count} of them, {len(where['$or']):,} comparisons each"


@_register(TO_DEPENDENCIES)
def large_filters(world: World, random: Random) -> str:
    """A burst of queries with the largest filters there may be: answered, as all are."""
    count = random.randint(1, 20)
    where = {"$or": [{"topic": f"t{number}"} for number in range(MAX_FILTER_OPERANDS)]}
    world.traffic.ask_at_once(lambda number: _query(f"q{number}", where), count, ())
    return f"{count} of them"


def _query(query_id: str, where: dict[str, Any] | None = None) -> bytes:
    # Not through the contract, which refuses some of them.
    return json.dumps({"id": query_id, "text": "capital of france", "generate": False, "where": where}).encode()


@_register(TO_DEPENDENCIES)
def partitions_added(world: World, _: Random) -> str:
    """The query topic gets one partition more, while events are produced to it."""
    topic = world.kafka.query_topic
    count = len(world.admin.list_topics(topic, timeout=HANG_S).topics[topic].partitions)
    if count >= MAX_PARTITIONS:
        return f"{NOT_DONE}: there are {count}"
    world.admin.create_partitions([NewPartitions(topic, count + 1)], request_timeout=HANG_S)[topic].result(HANG_S)
    return f"now {count + 1}"


FAULTS = {name: fault for lane in LANES for name, fault in lane.items()}

DISRUPTIVE = {*TO_WORKERS, "network-cut", "network-reset", "broker-restart", "broker-kill", "coordinator-restart"}


def happen(world: World, name: str, random: Random) -> str:
    """Let a fault happen; returns a few words about it, or why it could not."""
    if name in DISRUPTIVE or name == TOPIC_MADE_AGAIN:
        world.disruptions[name] += 1
    try:
        return FAULTS[name](world, random)
    except KafkaException as error:
        # An administrator's request that meets another lane's harm.
        return f"{NOT_DONE}: {error.args[0].name()}"
