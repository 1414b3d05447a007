"""Whatever arrives is read or refused with a reason; whatever is written can be read back."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import (
    Answer,
    AnswerEvent,
    AnswerStatus,
    CandidateInfo,
    ContextInfo,
    Degradation,
    Models,
    QueryEvent,
    Timings,
    Usage,
    WireError,
    decode_answer,
    decode_query,
    encode_answer,
    encode_query,
)
from schemas.limits import MAX_EVENT_BYTES, filter_problem
from schemas.wire import MAX_MESSAGE_CHARS

# Everything UTF-8 can carry, NUL included; lone surrogates (category Cs) it can't.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
words = texts.filter(lambda value: bool(value.strip()))
numbers = st.floats(allow_nan=False, allow_infinity=False)
ranks = st.integers(1, 1_000)
milliseconds = st.floats(0, 1e9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds

queries = st.builds(
    QueryEvent,
    id=words,
    text=words,
    collection=st.none() | st.text("abc-", min_size=3, max_size=20),
    where=st.none() | json_objects.filter(lambda where: filter_problem(where) is None),
    top_k=st.none() | ranks,
    top_n=st.none() | ranks,
    min_score=st.none() | numbers,
    generate=st.booleans(),
    include_candidates=st.booleans(),
    deadline_ms=st.none() | st.integers(1, 604_800_000),
    metadata=st.none() | json_objects,
)
judged = {
    "document_id": texts,
    "text": texts,
    "metadata": st.dictionaries(texts, texts | st.integers() | numbers | st.booleans(), max_size=3),
    "recall_rank": ranks,
    "distance": numbers,
    "rerank_rank": ranks,
    "rerank_score": st.none() | numbers,
    "rerank_logit": st.none() | numbers,
    "rerank_windows": st.none() | ranks,
    "truncated": st.none() | st.booleans(),
}
answers = st.builds(
    AnswerEvent,
    query_id=words,
    query_text=words,
    status=st.sampled_from(AnswerStatus),
    contexts=st.lists(st.builds(ContextInfo, **judged), max_size=2),
    candidates=st.none() | st.lists(st.builds(CandidateInfo, **judged), max_size=2),
    answer=st.none()
    | st.builds(
        Answer,
        text=texts,
        citations=st.lists(texts, max_size=2),
        model=texts,
        usage=st.none() | st.builds(Usage, prompt_tokens=st.integers(0), completion_tokens=st.integers(0)),
    ),
    degradations=st.lists(
        st.builds(Degradation, stage=st.sampled_from(["rerank", "answer"]), reason=texts), max_size=2
    ),
    timings_ms=st.builds(
        Timings, queue=milliseconds, recall=milliseconds, rerank=milliseconds, answer=milliseconds, total=milliseconds
    ),
    models=st.builds(Models, embedding=st.none() | texts, cross_encoder=st.none() | texts, prior_weight=numbers),
    worker=texts,
    answered_at=moments,
    metadata=st.none() | json_objects,
)
A_QUERY = {"id": "q-1", "text": "What permissions does Debezium need on MySQL?"}


def as_query(**changes: object) -> bytes:
    return json.dumps(A_QUERY | changes).encode()


def refusal(value: bytes | None) -> WireError:
    with pytest.raises(WireError) as caught:
        decode_query(value)
    return caught.value


def refusal_or_none(value: bytes) -> WireError | None:
    try:
        decode_query(value)
    except WireError as error:
        return error
    return None


@given(queries)
def test_a_query_event_survives_the_wire(event: QueryEvent) -> None:
    assert decode_query(encode_query(event)) == event


@given(answers)
def test_an_answer_event_survives_the_wire(event: AnswerEvent) -> None:
    assert decode_answer(encode_answer(event)) == event


@given(answers)
def test_an_answer_is_json_that_any_strict_parser_reads(event: AnswerEvent) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(encode_answer(event), parse_constant=refuse)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_bytes_are_either_an_event_or_a_wire_error(value: bytes) -> None:
    error = refusal_or_none(value)
    if error is not None:
        assert error.reason in {"invalid_utf8", "invalid_json", "invalid_schema", "invalid_filter"}
        assert len(str(error)) <= MAX_MESSAGE_CHARS
        assert str(error).isprintable()


@given(
    st.fixed_dictionaries(
        {"id": words | json_values, "text": words | json_values},
        optional=dict.fromkeys(set(QueryEvent.model_fields) - {"id", "text"}, json_values),
    )
)
def test_an_object_with_any_values_is_either_an_event_that_can_be_echoed_or_a_wire_error(
    fields: dict[str, object],
) -> None:
    try:
        event = decode_query(json.dumps(fields).encode())
    except WireError:
        return
    assert decode_query(encode_query(event)) == event


def test_a_null_value_is_a_tombstone() -> None:
    assert refusal(None).reason == "tombstone"


def test_an_oversize_value_is_refused_before_it_is_parsed() -> None:
    error = refusal(b"\xff" * (MAX_EVENT_BYTES + 1))
    assert error.reason == "event_too_large"
    assert str(MAX_EVENT_BYTES + 1) in str(error)


def test_an_answer_may_outgrow_a_query() -> None:
    answer = AnswerEvent(
        query_id="q",
        query_text="t",
        status=AnswerStatus.OK,
        timings_ms=Timings(queue=0, recall=0, rerank=0, answer=0, total=0),
        models=Models(),
        worker="w",
        answered_at=datetime(2026, 11, 23, tzinfo=UTC),
        answer=Answer(text="x" * MAX_EVENT_BYTES, model="m"),
    )
    assert decode_answer(encode_answer(answer)) == answer


def test_bytes_that_are_not_utf8_say_where() -> None:
    error = refusal(b'{"id": "caf\xe9"}')
    assert error.reason == "invalid_utf8"
    assert "byte 11" in str(error)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{'id': 1}", id="single quotes"),
        pytest.param(b'{"id": "q", "text": "t"} {}', id="two documents"),
        pytest.param(as_query(min_score=float("nan")), id="NaN"),
        pytest.param(as_query(min_score=float("inf")), id="Infinity"),
        pytest.param(as_query(text="\ud800"), id="lone surrogate"),
        pytest.param(as_query(metadata={"deep": "\udfff"}), id="lone surrogate where nobody looks"),
        pytest.param(b"[" * 30_000 + b"]" * 30_000, id="nested too deep"),
        pytest.param(b'{"id": "q", "text": "t", "top_k": ' + b"9" * 5_000 + b"}", id="endless integer"),
    ],
)
def test_what_is_not_json_is_refused_as_that(value: bytes) -> None:
    error = refusal(value)
    assert error.reason == "invalid_json"
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"[]", "event"),
        (b"null", "event"),
        (b'{"text": "t"}', "id"),
        (b'{"id": "q"}', "text"),
        (as_query(id=7), "id"),
        (as_query(id="x" * 129), "id"),
        (as_query(text=""), "text"),
        (as_query(text=" \t\n\u2003"), "text"),
        (as_query(text="x" * 8_193), "text"),
        (as_query(collection="ab"), "collection"),
        (as_query(top_k=0), "top_k"),
        (as_query(top_k=1_001), "top_k"),
        (as_query(top_k="5"), "top_k"),
        (as_query(top_k=True), "top_k"),
        (as_query(top_n=2.5), "top_n"),
        (as_query(min_score="0.5"), "min_score"),
        (as_query(min_score=True), "min_score"),
        (b'{"id": "q", "text": "t", "min_score": 1e400}', "min_score"),
        (b'{"id": "q", "text": "t", "metadata": {"huge": 1e400}}', "metadata.huge"),
        (as_query(generate="yes"), "generate"),
        (as_query(generate=1), "generate"),
        (as_query(deadline_ms=0), "deadline_ms"),
        (as_query(deadline_ms=10**400), "deadline_ms"),
        (as_query(where="status = 1"), "where"),
    ],
)
def test_a_wrong_field_is_named(value: bytes, field: str) -> None:
    error = refusal(value)
    assert error.reason == "invalid_schema"
    assert str(error).startswith(field)


@pytest.mark.parametrize("field", sorted(set(QueryEvent.model_fields) - {"id", "text"}))
def test_a_null_is_an_absent_field(field: str) -> None:
    assert decode_query(as_query(**{field: None})) == decode_query(as_query())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": " "}, "text: must not be blank"),
        ({"text": "x" * 8_193}, "text: must have at most 8192 characters"),
        ({"id": 7}, "id: must be text"),
        ({"top_k": 0}, "top_k: must be at least 1"),
        ({"top_k": 2.5}, "top_k: must be a whole number"),
        ({"generate": "yes"}, "generate: must be true or false"),
        ({"where": []}, "where: must be an object"),
    ],
)
def test_a_refusal_is_in_plain_words(changes: dict[str, object], message: str) -> None:
    assert str(refusal(as_query(**changes))) == message


def test_every_wrong_field_is_named_at_once() -> None:
    message = str(refusal(as_query(top_k=0, generate="no")))
    assert "top_k" in message
    assert "generate" in message


def test_an_error_never_echoes_what_it_refuses() -> None:
    secret = "correct horse battery staple " * 10_000
    error = refusal(as_query(top_k=secret))
    assert "horse" not in str(error)
    assert len(str(error)) <= MAX_MESSAGE_CHARS


def test_of_a_repeated_key_the_last_one_counts() -> None:
    assert decode_query(b'{"id": "q", "text": "first", "text": "last"}').text == "last"


def test_unknown_fields_are_ignored_and_not_written() -> None:
    event = decode_query(as_query(invented_later=True))
    assert b"invented_later" not in encode_query(event)


def test_nul_and_every_other_character_of_a_text_is_kept() -> None:
    text = "what\x00 is \u2028 漢字 \U0001f600?"
    assert decode_query(as_query(text=text)).text == text


def test_a_query_leaves_out_what_is_not_set_but_keeps_nulls_the_asker_put_into_metadata() -> None:
    event = QueryEvent(id="q", text="t", metadata={"trace": None})
    assert json.loads(encode_query(event)) == {
        "id": "q",
        "text": "t",
        "generate": True,
        "include_candidates": False,
        "metadata": {"trace": None},
    }


def test_an_event_that_json_cannot_carry_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValidationError, match="finite"):
        QueryEvent(id="q", text="t", metadata={"score": float("inf")})
