"""Which topics a reply may go to, with a broker that knows these and counts how often it is asked."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin._acl import AclOperation

from schemas.replies import ReplyRefusal, ReplyTo
from tests.patience import HANG_S
from worker.kafka.publish import reply_topics
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.settings import KafkaSettings

ALLOWED = KafkaSettings(reply_topics=("answers-to-ann", "replies.*", "rag*"))


@dataclass
class Described:
    partitions: Sequence[int]
    authorized_operations: Sequence[AclOperation] | None = None


@dataclass
class FakeAdmin:
    """Describes what is in ``topics``; an error there is its answer."""

    topics: dict[str, Described | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def describe_topics(self, topics: TopicCollection, **_: object) -> dict[str, "Future[Any]"]:
        [name] = topics.topic_names
        self.asked.append(name)
        answer: Future[Any] = Future()
        found = self.topics.get(name, KafkaError.UNKNOWN_TOPIC_OR_PART)
        if isinstance(found, int):
            answer.set_exception(KafkaException(KafkaError(found)))
        else:
            answer.set_result(found)
        return {name: answer}


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> FakeAdmin:
    fake = FakeAdmin()
    monkeypatch.setattr(reply_topics, "AdminClient", lambda _config: fake)
    monkeypatch.setattr(reply_topics, "SECOND_LOOK_S", 0.001)
    return fake


NAMES = {
    "answers-to-ann": True,
    "answers-to-anne": False,
    "replies.": True,
    "replies.ann": True,
    "replies": False,
    "rag.answers": True,
    "rag.queries": False,
    "rag.queries.dlq": False,
    "__consumer_offsets": False,
    "": False,
    "replies.\n": False,
    "replies./../x": False,
    "replies.\ufffd": False,
    "replies." + "x" * 249: False,
}


@pytest.mark.parametrize(("name", "allowed"), NAMES.items(), ids=map(repr, NAMES))
async def test_the_operators_list_says_what_is_allowed(admin: FakeAdmin, name: str, allowed: bool) -> None:
    topics = ReplyTopics(ALLOWED)
    assert topics.allows(name) is allowed
    if not allowed:
        assert await topics.resolve(ReplyTo(name)) is ReplyRefusal.NOT_ALLOWED
        assert admin.asked == [], "no name that is not allowed reaches the broker"


async def test_a_reply_never_goes_where_contexts_go(admin: FakeAdmin) -> None:
    topics = ReplyTopics(ALLOWED.model_copy(update={"contexts_topic": "rag.contexts"}))
    assert await topics.resolve(ReplyTo("rag.contexts")) is ReplyRefusal.NOT_ALLOWED
    assert admin.asked == []


async def test_by_default_nothing_is_allowed_and_no_broker_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(reply_topics, "AdminClient")
    assert await ReplyTopics(KafkaSettings()).resolve(ReplyTo("rag.answers")) is ReplyRefusal.NOT_ALLOWED


@pytest.mark.parametrize(("partition", "taken"), [(None, None), (0, 0), (2, 2), (3, None)])
async def test_a_partition_counts_if_it_is_there(admin: FakeAdmin, partition: int | None, taken: int | None) -> None:
    admin.topics["replies.ann"] = Described([0, 1, 2])
    assert await ReplyTopics(ALLOWED).resolve(ReplyTo("replies.ann", partition)) == ReplyTo("replies.ann", taken)


@pytest.mark.parametrize(
    ("operations", "writable"),
    [
        (None, True),
        ([], True),
        ([AclOperation.WRITE, AclOperation.DESCRIBE], True),
        ([AclOperation.ALL], True),
        ([AclOperation.READ, AclOperation.DESCRIBE], False),
    ],
)
async def test_a_topic_the_broker_lets_us_only_read_is_not_tried(
    admin: FakeAdmin, operations: list[AclOperation] | None, writable: bool
) -> None:
    admin.topics["replies.ann"] = Described([0], operations)
    found = await ReplyTopics(ALLOWED).resolve(ReplyTo("replies.ann"))
    assert found == (ReplyTo("replies.ann") if writable else ReplyRefusal.NOT_WRITABLE)


async def test_a_topic_that_may_not_be_seen_is_not_writable(admin: FakeAdmin) -> None:
    admin.topics["replies.ann"] = KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert await ReplyTopics(ALLOWED).resolve(ReplyTo("replies.ann")) is ReplyRefusal.NOT_WRITABLE


async def test_a_topic_that_is_missing_is_looked_for_once_more_and_then_known_to_be(admin: FakeAdmin) -> None:
    topics = ReplyTopics(ALLOWED)
    for _ in range(3):
        assert await topics.resolve(ReplyTo("replies.ann")) is ReplyRefusal.NOT_THERE
    assert admin.asked == ["replies.ann"] * 2


async def test_many_queries_wait_for_one_answer_and_one_that_is_cancelled_leaves_it_to_the_others(
    admin: FakeAdmin,
) -> None:
    topics = ReplyTopics(ALLOWED)
    waiting = [asyncio.create_task(topics.resolve(ReplyTo("replies.ann"))) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert set(await asyncio.gather(*waiting[1:])) == {ReplyRefusal.NOT_THERE}
    assert admin.asked == ["replies.ann"] * 2


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT])
async def test_a_broker_that_does_not_answer_is_asked_until_it_does(
    admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(reply_topics, "FIRST_PAUSE_S", 0.001)
    admin.topics["replies.ann"] = code
    waiting = asyncio.create_task(ReplyTopics(ALLOWED).resolve(ReplyTo("replies.ann", 5)))
    async with asyncio.timeout(HANG_S):
        while len(admin.asked) < 3:
            assert not waiting.done()
            await asyncio.sleep(0.001)
        admin.topics["replies.ann"] = Described(range(6))
        assert await waiting == ReplyTo("replies.ann", 5)


async def test_a_broker_that_can_not_say_is_not_asked_for_ever(admin: FakeAdmin) -> None:
    admin.topics["replies.ann"] = KafkaError.UNSUPPORTED_VERSION
    assert await ReplyTopics(ALLOWED).resolve(ReplyTo("replies.ann")) is ReplyRefusal.NOT_WRITABLE


async def test_a_transaction_gets_nothing_of_which_the_broker_does_not_say_that_it_may_be_written(
    admin: FakeAdmin,
) -> None:
    admin.topics["replies.ann"] = Described([0])
    transacting = ReplyTopics(ALLOWED.model_copy(update={"delivery_guarantee": "exactly_once"}))
    assert await transacting.resolve(ReplyTo("replies.ann")) is ReplyRefusal.NOT_WRITABLE


async def test_what_the_broker_refuses_is_not_tried_again_soon_and_what_was_gone_is_looked_for(
    admin: FakeAdmin,
) -> None:
    admin.topics["replies.ann"] = Described([0])
    topics = ReplyTopics(ALLOWED)
    await topics.resolve(ReplyTo("replies.ann"))
    topics.refuse("replies.ann", ReplyRefusal.NOT_THERE)
    assert await topics.resolve(ReplyTo("replies.ann")) == ReplyTo("replies.ann")
    assert len(admin.asked) == 2
    topics.refuse("replies.ann", ReplyRefusal.NOT_WRITABLE)
    assert await topics.resolve(ReplyTo("replies.ann")) is ReplyRefusal.NOT_WRITABLE
    assert len(admin.asked) == 2
