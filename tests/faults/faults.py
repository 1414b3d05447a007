"""The faults that queries and the live index meet alike: each does its harm, undoes it, and returns a few words.

Blocking. What queries alone meet stands in ``query_faults.py``.
"""

import threading
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar

from confluent_kafka import Consumer, ElectionType, KafkaException, TopicPartition

from tests.faults.cluster import Broker
from tests.faults.stack import HANG_TIMEOUT_S, SESSION_TIMEOUT_S, Stack
from tests.faults.supervisor import Member
from tests.patience import HANG_S
from worker.kafka.config import consumer_config
from worker.local.process import await_condition

World = TypeVar("World", bound=Stack)
Fault = Callable[[World, Random], str]
Faults = Mapping[str, Fault[World]]

TO_WORKERS: dict[str, Fault[Stack]] = {}
"""What happens to the consumer group."""
TO_BROKERS: dict[str, Fault[Stack]] = {}
"""What happens to Kafka and the way to it."""
TO_STORE: dict[str, Fault[Stack]] = {}
"""What happens to all else that the workers live on."""

NOT_DONE = "not done"
"""How the words about a fault begin that did not happen."""

# What a worker that hangs has for its end, and its orchestrator to notice; busy machines take longer.
CLOSE_S = 60.0
GROUP_OFFSETS = "__consumer_offsets"
# More replicas than there are: no write to the topic can be acknowledged.
IMPOSSIBLE_REPLICAS = "4"


def registering(faults: dict[str, Fault[World]]) -> Callable[[Fault[World]], Fault[World]]:
    """Return what puts a fault among ``faults``, under its own name."""

    def add(fault: Fault[World]) -> Fault[World]:
        faults[fault.__name__.replace("_", "-")] = fault
        return fault

    return add


def wait(seconds: float) -> None:
    """Let it last: the length of a fault is part of it."""
    threading.Event().wait(seconds)


def store_away(world: Stack, random: Random, end: Callable[[], None]) -> str:
    """Have the vector store end so, and come back."""
    seconds = random.uniform(0, 3)
    end()
    try:
        wait(seconds)
    finally:
        world.chroma.start()
    return f"away for {seconds:.1f} s and its start"


def _some_member(world: Stack, random: Random) -> Member:
    member = random.choice(world.supervisor.members)
    member.await_ready()
    return member


@registering(TO_WORKERS)
def worker_kill(world: Stack, random: Random) -> str:
    """Kill -9: nothing is committed or said; the orchestrator starts another."""
    member = _some_member(world, random)
    member.kill()
    return member.name


@registering(TO_WORKERS)
def worker_stop(world: Stack, random: Random) -> str:
    """SIGTERM: it drains; the orchestrator starts another."""
    member = _some_member(world, random)
    member.terminate()
    return member.name


@registering(TO_WORKERS)
def worker_freeze(world: Stack, random: Random) -> str:
    """Stand still until the group has given the partitions to others, then go on as if nothing had been."""
    member = _some_member(world, random)
    return _stand_still(member, SESSION_TIMEOUT_S + random.uniform(1, 3))


@registering(TO_WORKERS)
def worker_hiccup(world: Stack, random: Random) -> str:
    """Stand still for less than the session timeout."""
    member = _some_member(world, random)
    return _stand_still(member, random.uniform(0.5, SESSION_TIMEOUT_S / 2))


def _stand_still(member: Member, seconds: float) -> str:
    member.freeze()
    try:
        wait(seconds)
    finally:
        member.thaw()
    return f"{member.name} for {seconds:.1f} s"


@registering(TO_WORKERS)
def worker_hang(world: Stack, random: Random) -> str:
    """Its compute thread never comes back: it ends itself after its time, and the orchestrator starts another."""
    member = _some_member(world, random)
    ends = len(member.exits)
    member.hang()
    ended = await_condition(lambda: len(member.exits) > ends, timeout_s=HANG_TIMEOUT_S + CLOSE_S)
    if not ended:
        # It hangs with its next query; that it may be without one is no fault of its own.
        return f"{member.name}, which has had nothing to score"
    return f"{member.name} ended itself with {member.exits[ends]}"


@registering(TO_WORKERS)
def rebalance_storm(world: Stack, random: Random) -> str:
    """A member that joins and leaves every second; it takes partitions and does nothing with them."""
    rounds = random.randint(2, 4)
    for _ in range(rounds):
        guest = Consumer(consumer_config(world.kafka) | {"log_level": 0})
        guest.subscribe([world.kafka.query_topic])
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


@registering(TO_BROKERS)
def broker_restart(world: Stack, random: Random) -> str:
    """A broker shuts down in order, hands its leaderships over, and comes back."""
    return _restart(world, random.choice(world.cluster.brokers[1:]), world.cluster.stop, random)


@registering(TO_BROKERS)
def broker_kill(world: Stack, random: Random) -> str:
    """A broker dies and comes back."""
    return _restart(world, random.choice(world.cluster.brokers[1:]), world.cluster.kill, random)


@registering(TO_BROKERS)
def coordinator_restart(world: Stack, random: Random) -> str:
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


def _restart(world: Stack, broker: Broker, end: Callable[[Broker], None], random: Random) -> str:
    end(broker)
    try:
        wait(random.uniform(0, 2))
    finally:
        world.cluster.start(broker)
    return f"broker {broker.number}"


@registering(TO_BROKERS)
def leader_change(world: Stack, random: Random) -> str:
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


@registering(TO_BROKERS)
def network_cut(world: Stack, random: Random) -> str:
    """Nothing passes between the workers and some brokers, and nobody is told."""
    brokers = random.sample(world.cluster.brokers, random.randint(1, 3))
    seconds = random.choice([1.0, 3.0, SESSION_TIMEOUT_S + 2])
    for broker in brokers:
        broker.proxy.cut()
    try:
        wait(seconds)
    finally:
        for broker in brokers:
            broker.proxy.heal()
    return f"to {len(brokers)} of 3 brokers for {seconds:g} s"


@registering(TO_BROKERS)
def network_reset(world: Stack, _: Random) -> str:
    """Every connection of the workers ends at once."""
    for broker in world.cluster.brokers:
        broker.proxy.reset()
    return "every connection"


@registering(TO_BROKERS)
def network_slow(world: Stack, random: Random) -> str:
    """Each way takes long."""
    delay_s = random.choice([0.05, 0.3])
    for broker in world.cluster.brokers:
        broker.proxy.slow(delay_s)
    try:
        wait(random.uniform(1, 3))
    finally:
        for broker in world.cluster.brokers:
            broker.proxy.heal()
    return f"{delay_s * 1000:g} ms each way"


@registering(TO_STORE)
def chroma_restart(world: Stack, random: Random) -> str:
    """The vector store goes away and comes back."""
    return store_away(world, random, world.chroma.stop)


@registering(TO_STORE)
def dead_letters_unwritable(world: Stack, random: Random) -> str:
    """The dead-letter topic takes nothing: partitions with poison stop, and go on when it does again."""
    seconds = random.uniform(1, 6)
    topic = world.kafka.dead_letter_topic
    world.configure_topic(topic, "min.insync.replicas", IMPOSSIBLE_REPLICAS)
    try:
        wait(seconds)
    finally:
        await_condition(lambda: _configured(world, topic), timeout_s=HANG_S)
    return f"for {seconds:.1f} s"


def _configured(world: Stack, topic: str) -> bool:
    # A broker may be restarting in the other lane; the harm must be undone all the same.
    try:
        world.configure_topic(topic, "min.insync.replicas", "2")
    except KafkaException:
        return False
    return True


DISRUPTIVE = {*TO_WORKERS, "network-cut", "network-reset", "broker-restart", "broker-kill", "coordinator-restart"}


def happen(world: World, name: str, faults: Faults[World], random: Random) -> str:
    """Let a fault happen; returns a few words about it, or why it could not."""
    if name in DISRUPTIVE:
        world.disruptions[name] += 1
    try:
        return faults[name](world, random)
    except KafkaException as error:
        # An administrator's request that meets another lane's harm.
        return f"{NOT_DONE}: {error.args[0].name()}"
