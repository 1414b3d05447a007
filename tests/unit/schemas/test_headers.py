"""Headers come out as they went in; a dead letter says why in its own."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import DeadLetterInfo, WireError, dead_letter_headers, dead_letter_info, header, passthrough_headers
from schemas.limits import MAX_ECHOED_HEADER_BYTES, MAX_ECHOED_HEADERS
from schemas.wire import MAX_MESSAGE_CHARS, REPLAYED_ATTEMPTS, attempts, replay_headers

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
headers = st.lists(st.tuples(texts, st.none() | st.binary(max_size=20)), max_size=5)
printable = st.text("abc äß漢:", min_size=1, max_size=30).filter(lambda value: value == " ".join(value.split()))
dead_letters = st.builds(
    DeadLetterInfo,
    error_kind=st.sampled_from(["poison", "transient"]),
    error_class=printable,
    error_message=printable,
    source_topic=printable,
    source_partition=st.integers(0, 2**31),
    source_offset=st.integers(0, 2**63),
    source_timestamp=st.none() | moments,
    attempts=st.integers(1, 100),
)


def test_timestamps_are_written_in_utc() -> None:
    info = DeadLetterInfo(
        error_kind="poison",
        error_class="invalid_json",
        error_message="m",
        source_topic="t",
        source_partition=0,
        source_offset=0,
        source_timestamp=datetime(2026, 11, 23, 9, 0, tzinfo=timezone(timedelta(hours=2))),
    )
    assert header(dead_letter_headers(info, []), "source.timestamp") == "2026-11-23T07:00:00Z"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "2026-11-23T07:00:00", "soon"])
def test_a_moment_without_a_place_in_utc_is_refused(moment: str) -> None:
    with pytest.raises(WireError, match="source_timestamp"):
        dead_letter_info([("source.timestamp", moment.encode())])


def test_the_last_header_of_a_name_counts() -> None:
    assert header([("a", b"1"), ("b", b"2"), ("a", b"3")], "a") == "3"


@pytest.mark.parametrize("value", [None, b"\xff\xfe"])
def test_a_header_without_text_is_absent(value: bytes | None) -> None:
    assert header([("a", value)], "a") is None


@given(headers)
def test_trace_and_reply_headers_pass_through_in_order_with_their_repeats(
    others: list[tuple[str, bytes | None]],
) -> None:
    kept = [("traceparent", b"00-1"), ("correlation-id", b"\xff"), ("Reply-Topic", None), ("traceparent", b"00-2")]
    unrelated = [(f"x-{name}", value) for name, value in others]
    assert passthrough_headers([*unrelated, *kept, *unrelated]) == kept


def test_what_spring_and_cloud_events_match_by_passes_through() -> None:
    kept = [
        ("kafka_correlationId", b"\x01\x02"),
        ("kafka_replyPartition", b"\0\0\0\x07"),
        ("ce_id", b"1"),
        ("CE_x", None),
    ]
    assert passthrough_headers([("kafka_offset", b"1"), *kept, ("cex", b"")]) == kept


def test_what_is_echoed_is_bounded_and_the_rest_left_out() -> None:
    many = [("ce_x", str(number).encode()) for number in range(1_000)]
    assert passthrough_headers(many) == many[:MAX_ECHOED_HEADERS]
    large = [("baggage", b"x" * MAX_ECHOED_HEADER_BYTES), ("correlation-id", b"1")]
    assert passthrough_headers(large) == large[1:]


def test_a_producers_own_attempts_are_not_believed_and_survive_a_replay() -> None:
    asked = [("attempts", b"41"), ("error.class", b"mine"), ("x", None)]
    assert attempts(asked) == 0
    first = DeadLetterInfo(
        error_kind="transient",
        error_class="retries_exhausted",
        error_message="m",
        source_topic="t",
        source_partition=0,
        source_offset=0,
        attempts=1 + attempts(asked),
    )
    again = replay_headers(dead_letter_headers(first, asked))
    assert again == [*asked, (REPLAYED_ATTEMPTS, b"1")]
    second = first.model_copy(update={"attempts": 1 + attempts(again)})
    assert replay_headers(dead_letter_headers(second, again)) == [*asked, (REPLAYED_ATTEMPTS, b"2")]


@given(dead_letters, headers)
def test_a_replay_has_the_headers_the_event_came_with(
    info: DeadLetterInfo, original: list[tuple[str, bytes | None]]
) -> None:
    assert replay_headers(dead_letter_headers(info, original))[:-1] == original


@given(dead_letters, headers)
def test_a_dead_letter_says_why_after_the_original_headers(
    info: DeadLetterInfo, original: list[tuple[str, bytes | None]]
) -> None:
    written = dead_letter_headers(info, original)
    assert written[: len(original)] == original
    assert dead_letter_info(written) == info


def test_a_dead_letter_is_written_whatever_its_message_quotes() -> None:
    info = DeadLetterInfo(
        error_kind="poison",
        error_class="internal_error",
        error_message="two\nlines and \ud800 a lone surrogate " + "x" * 10_000,
        source_topic="t",
        source_partition=0,
        source_offset=0,
    )
    message = header(dead_letter_headers(info, []), "error.message")
    assert message is not None
    assert message.startswith("two lines and a lone surrogate x")
    assert len(message) == MAX_MESSAGE_CHARS


@given(dead_letters, dead_letters)
def test_an_event_that_failed_again_after_a_replay_tells_its_last_failure(
    first: DeadLetterInfo, second: DeadLetterInfo
) -> None:
    assert dead_letter_info(dead_letter_headers(second, dead_letter_headers(first, []))) == second


@given(headers)
def test_headers_that_are_no_dead_letters_are_a_wire_error(found: list[tuple[str, bytes | None]]) -> None:
    with pytest.raises(WireError) as caught:
        dead_letter_info(found)
    assert caught.value.reason == "invalid_schema"
