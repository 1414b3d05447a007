"""What follows from the topic's id: which commits are believed, and when a partition begins again."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    KafkaError,
    KafkaException,
    TopicPartition,
    Uuid,
)

from worker.kafka.consume import log_watch
from worker.kafka.consume.log_watch import LogWatch
from worker.kafka.consume.offsets import Lease, LogId, Partition
from worker.settings import KafkaSettings

QUERIES = KafkaSettings().query_topic
P0, P1 = (QUERIES, 0), (QUERIES, 1)
FORMER, PRESENT = Uuid(1, 1), Uuid(2, 2)


def log(topic: Uuid, cluster: str = "here") -> LogId:
    return LogId(cluster, str(topic))


class FakeAdmin:
    """Answers when the test says so, with what the test says."""

    def __init__(self) -> None:
        self.topic: Future[Any] = Future()
        self.cluster: Future[Any] = Future()
        self.asked = 0

    def describe_topics(self, topics: Any, **_: object) -> dict[str, "Future[Any]"]:
        self.asked += 1
        self.topic, self.cluster = Future(), Future()
        return {QUERIES: self.topic}

    def describe_cluster(self, **_: object) -> "Future[Any]":
        return self.cluster

    def answer(self, topic: Uuid) -> None:
        self.topic.set_result(SimpleNamespace(topic_id=topic))
        self.cluster.set_result(SimpleNamespace(cluster_id="here"))


class FakeConsumer:
    """Has the commits that the test says, and remembers where partitions were told to begin."""

    def __init__(self) -> None:
        self.begun: dict[Partition, int] = {}
        self.commits: Sequence[TopicPartition] | KafkaException = ()
        self.asked_for: list[Partition] = []

    def committed(self, partitions: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
        assert timeout_s > 0
        self.asked_for = [(at.topic, at.partition) for at in partitions]
        if isinstance(self.commits, KafkaException):
            raise self.commits
        return list(self.commits)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None: ...

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.begun |= {(at.topic, at.partition): at.offset for at in partitions}


class Bench:
    """A watch over leases, and what it told."""

    def __init__(self, **settings: object) -> None:
        self.admin = FakeAdmin()
        self.consumer = FakeConsumer()
        self.leases: dict[Partition, Lease] = {}
        self.made_again: list[Mapping[Partition, Lease]] = []
        self.assigned_anew: list[Partition] = []
        self.watch = LogWatch(
            KafkaSettings.model_validate(settings),
            None,
            self.leases,
            on_made_again=self.made_again.append,
            after_assign_anew=self._after_assign_anew,
        )

    def _after_assign_anew(self, partitions: Sequence[Partition]) -> None:
        self.assigned_anew += partitions

    def assign(self, *partitions: Partition) -> None:
        self.leases |= {partition: Lease() for partition in partitions}
        self.watch.ask_anew()
        self.serve()

    def serve(self) -> None:
        self.watch.serve(self.consumer)  # type: ignore[arg-type]  # a fake

    def answer(self, topic: Uuid, *committed: TopicPartition) -> None:
        self.consumer.commits = committed
        self.admin.answer(topic)
        self.serve()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_watch, "INTERVAL_S", 0.0)
    monkeypatch.setattr(log_watch, "RETRY_S", 0.0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return new_bench(monkeypatch)


def new_bench(monkeypatch: pytest.MonkeyPatch, **settings: object) -> Bench:
    bench = Bench(**settings)
    monkeypatch.setattr(log_watch, "AdminClient", lambda _: bench.admin)
    return bench


def commit(offset: int, metadata: str | None = None, partition: int = 0) -> TopicPartition:
    # The client takes no None here, only nothing.
    noted = {} if metadata is None else {"metadata": metadata}
    return TopicPartition(QUERIES, partition, offset, **noted)


def test_a_client_that_gets_no_token_for_now_is_made_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_token(_config: object) -> FakeAdmin:
        raise KafkaException(KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED, "OAuth token not set"))

    monkeypatch.setattr(log_watch, "AdminClient", no_token)
    bench.assign(P0)
    assert bench.watch.unknown == {P0}
    monkeypatch.setattr(log_watch, "AdminClient", lambda _: bench.admin)
    bench.serve()
    bench.answer(PRESENT, commit(7))
    assert bench.watch.unknown == set()


def test_nothing_is_fetched_before_it_is_known_which_log_it_is_of(bench: Bench) -> None:
    bench.assign(P0, P1)
    assert bench.watch.unknown == {P0, P1}
    bench.answer(PRESENT, commit(7), commit(OFFSET_INVALID, partition=1))
    assert sorted(bench.consumer.asked_for) == [P0, P1]
    assert bench.watch.unknown == set()
    assert bench.leases[P0].log == bench.leases[P1].log == log(PRESENT)


@pytest.mark.parametrize(
    "metadata",
    [None, "", "somebody else's words", log(PRESENT).metadata, log(FORMER, "there").metadata],
    ids=["nothing", "empty", "not ours", "this topic", "a topic of another cluster"],
)
def test_a_commit_that_is_not_of_a_former_topic_is_where_it_goes_on(bench: Bench, metadata: str | None) -> None:
    bench.assign(P0)
    bench.answer(PRESENT, commit(7, metadata))
    assert bench.consumer.begun == {}
    assert bench.assigned_anew == bench.made_again == []


def test_a_commit_of_a_former_topic_is_not_where_the_present_one_goes_on(bench: Bench) -> None:
    bench.assign(P0, P1)
    bench.answer(PRESENT, commit(7, log(FORMER).metadata), commit(9, log(PRESENT).metadata, partition=1))
    assert bench.consumer.begun == {P0: OFFSET_BEGINNING}
    assert bench.assigned_anew == [P0]
    # Nothing of it was read: the loop has nothing to begin again.
    assert bench.made_again == []
    assert not bench.leases[P0].ended


def test_a_topic_made_again_under_a_consumer_ends_what_was_read_and_needs_another_client(bench: Bench) -> None:
    bench.assign(P0)
    bench.answer(FORMER, commit(7))
    read = bench.leases[P0]
    bench.serve()
    bench.answer(PRESENT)
    assert read.ended
    assert bench.made_again == [{P0: bench.leases[P0]}]
    assert (bench.leases[P0].log, bench.leases[P0].ended) == (log(PRESENT), False)
    assert bench.watch.made_again

    # A broker that has not heard of it changes nothing.
    bench.serve()
    bench.answer(FORMER)
    assert bench.leases[P0].log == log(PRESENT)
    assert len(bench.made_again) == 1


def test_an_answer_from_before_an_assignment_is_not_believed(bench: Bench) -> None:
    bench.assign(P0)
    earlier = bench.admin.topic, bench.admin.cluster
    bench.assign(P1)
    for future, answer in zip(earlier, ({"topic_id": FORMER}, {"cluster_id": "here"}), strict=True):
        future.set_result(SimpleNamespace(**answer))
    bench.serve()
    assert bench.watch.unknown == {P0, P1}
    bench.answer(PRESENT, commit(3, log(PRESENT).metadata), commit(4, log(PRESENT).metadata, partition=1))
    assert bench.watch.unknown == set()
    assert bench.consumer.begun == {}


def test_where_no_coordinator_answers_nothing_is_fetched_and_it_is_asked_again(bench: Bench) -> None:
    bench.assign(P0)
    bench.consumer.commits = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    bench.admin.answer(PRESENT)
    bench.serve()
    assert bench.watch.unknown == {P0}
    bench.serve()
    assert bench.admin.asked == 2
    bench.answer(PRESENT, commit(7))
    assert bench.watch.unknown == set()


def test_an_offset_that_is_not_stable_yet_is_asked_for_again(bench: Bench) -> None:
    bench.assign(P0, P1)
    # A namespace, for the client alone sets the error of the real one.
    unstable = SimpleNamespace(topic=QUERIES, partition=0, offset=OFFSET_INVALID, error=KafkaError(1), metadata=None)
    bench.answer(PRESENT, unstable, commit(9, partition=1))  # type: ignore[arg-type]
    assert bench.watch.unknown == {P0}


def fail(bench: Bench, code: int) -> None:
    bench.admin.topic.set_exception(KafkaException(KafkaError(code)))
    bench.admin.cluster.set_result(SimpleNamespace(cluster_id="here"))
    bench.serve()


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_before_the_topics_id_is_told_nothing_is_fetched(bench: Bench, code: int) -> None:
    """What is read meanwhile could be of one topic, and be committed for the next."""
    bench.assign(P0)
    bench.consumer.commits = [commit(7)]
    for _ in range(3):
        fail(bench, code)
        bench.serve()
    assert bench.watch.unknown == {P0}
    bench.answer(PRESENT, commit(7))
    assert bench.watch.unknown == set()


def test_a_client_that_waits_for_an_answer_in_vain_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its broker was restarted, one asked in vain, for ever."""
    second = FakeAdmin()
    clients = iter((bench.admin, second))
    monkeypatch.setattr(log_watch, "AdminClient", lambda _: next(clients))
    bench.assign(P0)
    fail(bench, KafkaError._TIMED_OUT)
    bench.admin = second
    bench.serve()
    bench.answer(PRESENT, commit(7))
    assert bench.watch.unknown == set()


@pytest.mark.parametrize("code", [KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.UNSUPPORTED_VERSION])
def test_where_the_topics_id_is_never_told_the_commit_is_taken_at_its_word_until_it_is(bench: Bench, code: int) -> None:
    bench.assign(P0, P1)
    bench.consumer.commits = [commit(7, log(FORMER).metadata), commit(9, None, 1)]
    fail(bench, code)
    assert bench.watch.unknown == set()
    assert bench.consumer.begun == {}
    bench.serve()
    bench.answer(PRESENT)
    assert bench.watch.made_again
    assert bench.leases[P0].log == bench.leases[P1].log == log(PRESENT)


def test_brokers_that_were_asked_in_vain_for_long_tell_no_id(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_watch, "PATIENCE_S", -1.0)
    bench.assign(P0)
    bench.consumer.commits = [commit(7)]
    fail(bench, KafkaError._TIMED_OUT)
    assert bench.watch.unknown == set()


def test_brokers_that_told_an_id_before_are_asked_for_as_long_as_it_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_watch, "PATIENCE_S", -1.0)
    bench.assign(P0)
    bench.answer(PRESENT, commit(7))
    bench.assign(P1)
    bench.consumer.commits = [commit(7, partition=1)]
    fail(bench, KafkaError._TIMED_OUT)
    assert bench.watch.unknown == {P1}


def test_an_id_that_is_not_told_any_more_is_not_forgotten(bench: Bench) -> None:
    bench.assign(P0)
    bench.answer(FORMER, commit(7))
    bench.serve()
    fail(bench, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert bench.leases[P0].log == log(FORMER)
    bench.serve()
    bench.answer(PRESENT)
    assert bench.watch.made_again


def test_brokers_that_give_no_ids_are_taken_as_they_are(bench: Bench) -> None:
    bench.assign(P0)
    bench.answer(Uuid(0, 0), commit(7, log(FORMER).metadata))
    assert bench.watch.unknown == set()
    assert bench.consumer.begun == {}
    assert bench.leases[P0].log == log(FORMER)


def test_latest_is_for_partitions_without_a_commit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = new_bench(monkeypatch, auto_offset_reset="latest")
    bench.assign(P0, P1)
    bench.answer(PRESENT, commit(OFFSET_INVALID), commit(9, log(FORMER).metadata, partition=1))
    assert bench.consumer.begun == {P0: OFFSET_END, P1: OFFSET_BEGINNING}


def test_a_member_without_partitions_needs_another_client_too(bench: Bench) -> None:
    """What its client knows of the former topic would hold up the partitions that it gets later."""
    bench.serve()
    bench.answer(FORMER)
    bench.serve()
    bench.answer(FORMER)
    assert not bench.watch.made_again
    bench.serve()
    bench.answer(PRESENT)
    assert bench.watch.made_again
    assert bench.made_again == []


def test_after_a_topic_was_made_again_no_commit_is_no_new_group(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = new_bench(monkeypatch, auto_offset_reset="latest")
    bench.assign(P0)
    bench.answer(FORMER, commit(7))
    bench.serve()
    bench.answer(PRESENT)
    bench.leases.clear()
    bench.assign(P0)
    bench.answer(PRESENT, commit(OFFSET_INVALID))
    assert bench.consumer.begun == {}


def test_a_partition_assigned_anew_is_looked_at_again(bench: Bench) -> None:
    bench.assign(P0)
    bench.answer(FORMER, commit(7))
    bench.watch.look_again([P0])
    assert bench.watch.unknown == {P0}
    bench.serve()
    bench.answer(PRESENT, commit(7, log(FORMER).metadata))
    assert bench.consumer.begun == {P0: OFFSET_BEGINNING}
