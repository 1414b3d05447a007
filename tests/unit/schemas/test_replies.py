"""Where a query's headers want its reply, whatever a producer writes there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.replies import ReplyTo, reply_to
from schemas.wire import Headers

SEVEN = b"\x00\x00\x00\x07"

NAMED: dict[str, tuple[Headers, ReplyTo | None]] = {
    "no header": ([], None),
    "ours": ([("reply-topic", b"replies")], ReplyTo("replies")),
    "in capitals": ([("Reply-Topic", b"replies")], ReplyTo("replies")),
    "Spring's": ([("kafka_replyTopic", b"replies")], ReplyTo("replies")),
    "both": ([("reply-topic", b"ours"), ("kafka_replyTopic", b"springs")], ReplyTo("ours")),
    "ours empty beside Spring's": ([("reply-topic", b""), ("kafka_replyTopic", b"springs")], ReplyTo("springs")),
    "twice": ([("reply-topic", b"first"), ("reply-topic", b"last")], ReplyTo("last")),
    "null": ([("reply-topic", None)], None),
    "empty": ([("reply-topic", b"")], None),
    "no text": ([("reply-topic", b"\xff")], ReplyTo("\ufffd")),
    "a partition": ([("kafka_replyTopic", b"replies"), ("kafka_replyPartition", SEVEN)], ReplyTo("replies", 7)),
    "our topic and Spring's partition": (
        [("reply-topic", b"replies"), ("kafka_replyPartition", SEVEN)],
        ReplyTo("replies", 7),
    ),
    "a partition alone": ([("kafka_replyPartition", SEVEN)], None),
    "a partition below 0": (
        [("reply-topic", b"replies"), ("kafka_replyPartition", b"\xff\xff\xff\xff")],
        ReplyTo("replies"),
    ),
    "a partition as text": ([("reply-topic", b"replies"), ("kafka_replyPartition", b"7")], ReplyTo("replies")),
    "a partition that is null": ([("reply-topic", b"replies"), ("kafka_replyPartition", None)], ReplyTo("replies")),
}


@pytest.mark.parametrize(("headers", "wanted"), NAMED.values(), ids=NAMED.keys())
def test_the_headers_say_where_the_reply_goes(headers: Headers, wanted: ReplyTo | None) -> None:
    assert reply_to(headers) == wanted


@given(st.lists(st.tuples(st.sampled_from(["reply-topic", "kafka_replyPartition", "x"]), st.none() | st.binary())))
def test_no_bytes_raise(headers: list[tuple[str, bytes | None]]) -> None:
    wanted = reply_to(headers)
    assert wanted is None or (wanted.topic and (wanted.partition is None or 0 <= wanted.partition < 2**31))
