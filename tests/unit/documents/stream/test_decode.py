"""Events of this contract, and records that a real Debezium has written, into what the index is to hold."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.debezium_records import debezium_records
from worker.documents.stream.decode import Wanted
from worker.errors import PoisonError
from worker.kafka.consume.records import Record

Decode = Callable[..., Wanted | None]
MakeRecord = Callable[..., Record]

WRITTEN = debezium_records()
WRITTEN_S = 1_795_677_600.0
COLUMNS = {"text": r"{title}\n{body}", "title": "{title}", "metadata": "meta"}


def upserted(wanted: Wanted | None) -> tuple[str, str, dict[str, object]]:
    assert wanted is not None
    assert wanted.document is not None
    return wanted.id, wanted.document.text, dict(wanted.document.metadata)


def deleted(wanted: Wanted | None) -> str:
    assert wanted is not None
    assert wanted.document is None
    return wanted.id


def test_a_plain_event_is_a_document_named_by_its_key(decode: Decode, make_record: MakeRecord) -> None:
    event = {"text": "Body.", "title": "T", "metadata": {"year": 2026, "teams": ["a", "b"], "none": None}}
    wanted = decode(make_record(b"doc-1", event))
    assert upserted(wanted) == ("doc-1", "Body.", {"title": "T", "year": 2026, "teams": ["a", "b"]})
    assert wanted.document.source == "kafka:docs"
    assert wanted.document.origin == "docs-2@41"


def test_fields_of_a_plain_event_are_mapped_and_what_it_says_itself_counts_before(
    decode: Decode, make_record: MakeRecord
) -> None:
    event = {"fields": {"title": "T", "body": "B", "meta": "m"}, "metadata": {"meta": "mine"}, "format": "markdown"}
    wanted = decode(make_record(b"doc-1", event), **COLUMNS)
    assert upserted(wanted) == ("doc-1", "T\nB", {"title": "T", "meta": "mine"})
    assert wanted.document.format == "markdown"


@pytest.mark.parametrize(
    ("event", "collection"),
    [
        ({"text": "T"}, "documents"),
        ({"text": "T", "collection": "tenant-a"}, "tenant-a"),
        ({"text": "T", "collection": "documents"}, "documents"),
        ({"fields": {"body": "B", "tenant": "a"}}, "tenant-a"),
        ({"fields": {"body": "B", "tenant": "a"}, "collection": "documents"}, "documents"),
    ],
    ids=["says none", "says one", "says the usual one", "has a column", "says what its column does not"],
)
def test_a_document_goes_to_the_collection_its_event_or_its_columns_name(
    decode: Decode, make_record: MakeRecord, event: dict[str, object], collection: str
) -> None:
    wanted = decode(
        make_record(b"doc-1", event), text="{body}", collection="tenant-{tenant}", collections=("tenant-a",)
    )
    assert wanted is not None
    assert wanted.collection == collection


def test_rows_whose_column_is_empty_go_to_the_usual_collection(decode: Decode, make_record: MakeRecord) -> None:
    rows = {"events": "rows", "text": "{body}", "collection": "{tenant}", "collections": ("tenant-a",)}
    for tenant, collection in (("tenant-a", "tenant-a"), ("", "documents"), (None, "documents")):
        wanted = decode(make_record(b'{"id": 1}', {"id": 1, "body": "B", "tenant": tenant}), **rows)
        assert wanted is not None
        assert wanted.collection == collection


def test_a_collection_that_is_not_listed_is_refused(decode: Decode, make_record: MakeRecord) -> None:
    with pytest.raises(PoisonError, match=r"'tenant-b'.*index\.collections") as refused:
        decode(make_record(b"doc-1", {"text": "T", "collection": "tenant-b"}), collections=("tenant-a",))
    assert refused.value.reason == "unknown_collection"


@pytest.mark.parametrize("value", [None, {"op": "delete"}, {"op": "delete", "id": "doc-1"}], ids=str)
def test_a_tombstone_or_a_delete_takes_the_document_out(decode: Decode, make_record: MakeRecord, value: object) -> None:
    assert deleted(decode(make_record(b"doc-1", value))) == "doc-1"


ROWS = {
    "a snapshot's row": ("shop.public.docs", 0, "debezium", "1", "a\nfirst body", '{"lang": "en"}'),
    "an insert": ("shop.public.docs", 2, "debezium", "3", "c\nthird", None),
    "an update": ("shop.public.docs", 3, "debezium", "1", "a2\nfirst body", '{"lang": "en"}'),
    "the insert of a changed key": ("shop.public.docs", 7, "debezium", "30", "c\nthird", None),
    "a row with its schema": ("sch.public.docs", 0, "debezium", "1", "a\nfirst body", '{"lang": "en"}'),
    "an unwrapped row": ("flat.public.docs", 0, "rows", "1", "a\nfirst body", '{"lang": "en"}'),
    "an unwrapped update": ("flat.public.docs", 3, "rows", "1", "a2\nfirst body", '{"lang": "en"}'),
}


@pytest.mark.parametrize(("topic", "offset", "events", "identifier", "text", "meta"), ROWS.values(), ids=ROWS.keys())
def test_a_row_is_the_document_its_columns_make(
    decode: Decode, topic: str, offset: int, events: str, identifier: str, text: str, meta: str | None
) -> None:
    wanted = decode(WRITTEN[topic, offset], events=events, **COLUMNS)
    metadata = {"title": text.partition("\n")[0]} | ({} if meta is None else {"meta": meta})
    assert upserted(wanted) == (identifier, text, metadata)


GONE = {
    "a delete": ("shop.public.docs", 8, "debezium", "30"),
    "the delete of a changed key": ("shop.public.docs", 5, "debezium", "3"),
    "a delete with its schema": ("sch.public.docs", 5, "debezium", "3"),
    "an unwrapped delete": ("flat.public.docs", 5, "rows", "3"),
}


@pytest.mark.parametrize(("topic", "offset", "events", "identifier"), GONE.values(), ids=GONE.keys())
def test_a_deleted_row_takes_its_document_out(
    decode: Decode, topic: str, offset: int, events: str, identifier: str
) -> None:
    assert deleted(decode(WRITTEN[topic, offset], events=events, **COLUMNS)) == identifier


@pytest.mark.parametrize("events", ["debezium", "mongodb", "rows"])
def test_a_tombstone_behind_a_delete_is_one_more(decode: Decode, events: str) -> None:
    tombstone = replace(WRITTEN["shop.public.docs", 8], value=None)
    assert deleted(decode(tombstone, events=events, **COLUMNS)) == "30"


def test_an_outboxs_payload_is_a_row_under_its_aggregates_id(decode: Decode) -> None:
    wanted = decode(WRITTEN["outbox.event.article", 0], events="rows", text="{title}: {body}")
    assert upserted(wanted) == ("42", "t: b", {})


UNAVAILABLE = {
    "debezium": ("shop.public.docs", 12),
    "rows": ("flat.public.docs", 10),
    "schema": ("sch.public.docs", 12),
}


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_a_column_debezium_left_out_is_never_indexed(decode: Decode, name: str) -> None:
    events = "rows" if name == "rows" else "debezium"
    with pytest.raises(PoisonError, match=r"left out 'body'.*REPLICA IDENTITY FULL") as caught:
        decode(WRITTEN[UNAVAILABLE[name]], events=events, **COLUMNS)
    assert caught.value.reason == "unavailable_value"
    # Where nobody asks for it, nothing is missing.
    assert upserted(decode(WRITTEN[UNAVAILABLE[name]], events=events, text="{title}")) == ("7", "big2", {})


@pytest.mark.parametrize(
    "value", [["__debezium_unavailable_value"], "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="], ids=str
)
def test_a_column_left_out_is_known_in_a_list_and_in_base64(
    decode: Decode, make_record: MakeRecord, value: object
) -> None:
    with pytest.raises(PoisonError, match="left out 'tags'"):
        decode(make_record(b"1", {"title": "T", "tags": value}), events="rows", text="{title}", metadata="tags")


def test_a_change_is_as_old_as_the_database_says(decode: Decode) -> None:
    inserted = decode(WRITTEN["shop.public.docs", 2], events="debezium", **COLUMNS)
    unwrapped = decode(WRITTEN["flat.public.docs", 3], events="rows", **COLUMNS)
    outbox = decode(WRITTEN["outbox.event.article", 0], events="rows", text="{title}")
    happened = [wanted.happened_s for wanted in (inserted, unwrapped, outbox) if wanted is not None]
    assert happened == [1_795_677_500.476, 1_795_677_500.495, WRITTEN_S]


def test_mongodbs_document_is_json_text_and_may_lack_a_field(decode: Decode, make_record: MakeRecord) -> None:
    key = rb'{"id":"{\"$oid\": \"596e275826f08b2730779e1f\"}"}'
    event = {"op": "u", "after": '{"_id": {"$oid": "596e275826f08b2730779e1f"}, "title": "T"}', "source": {}}
    wanted = decode(make_record(key, event), events="mongodb", text="{title}{body}")
    assert upserted(wanted) == ("596e275826f08b2730779e1f", "T", {})


def test_values_that_are_no_text_stand_in_it_as_json(decode: Decode, make_record: MakeRecord) -> None:
    row = {"a": None, "b": 7, "c": True, "d": {"x": [1]}, "e": 'é"'}
    wanted = decode(make_record(b"1", row), events="rows", text="{a}|{b}|{c}|{d}|{e}")
    assert upserted(wanted)[1] == '|7|true|{"x":[1]}|é"'


def test_braces_in_a_value_are_no_template(decode: Decode, make_record: MakeRecord) -> None:
    wanted = decode(make_record(b"1", {"a": "{b} {0} {{"}), events="rows", text="{{{a}}}")
    assert upserted(wanted)[1] == "{{b} {0} {{}"


def test_a_message_about_no_row_is_passed_over(decode: Decode, make_record: MakeRecord) -> None:
    event = {"op": "m", "message": {"prefix": "p", "content": ""}, "source": {}}
    assert decode(make_record(b'{"prefix":"p"}', event), events="debezium", text="{title}") is None


MALFORMED: dict[str, tuple[object, dict[str, object], str]] = {
    "no JSON": (b"{", {}, "invalid_json"),
    "no UTF-8": (b'"\xff"', {}, "invalid_utf8"),
    "too large": (b"[" + b" " * 2_000 + b"]", {"max_event_bytes": 1_024}, "event_too_large"),
    "neither text nor fields": ({"title": "T"}, {}, "invalid_schema"),
    "both text and fields": ({"text": "t", "fields": {}}, {}, "invalid_schema"),
    "another id than its key's": ({"id": "doc-2", "text": "t"}, {}, "invalid_key"),
    "metadata of the index's own": ({"text": "t", "metadata": {"_hash": "x"}}, {}, "invalid_schema"),
    "a number no store has": ({"text": "t", "metadata": {"n": 2**70}}, {}, "invalid_schema"),
    "fields without a template": ({"fields": {"a": 1}}, {}, "invalid_schema"),
    "fields that lack a column": ({"fields": {"title": "T"}}, COLUMNS, "invalid_schema"),
    "a row where an envelope is expected": ({"title": "T"}, {"events": "debezium", "text": "{a}"}, "invalid_schema"),
    "an envelope where a row is": (
        {"op": "u", "before": None, "after": {"a": 1}, "source": {}},
        {"events": "rows", "text": "{a}"},
        "invalid_schema",
    ),
    "a row that lacks a column": ({"title": "T"}, {"events": "rows", "text": "{body}"}, "invalid_schema"),
    "a list": ([], {"events": "rows", "text": "{a}"}, "invalid_schema"),
    "an update without its row": (
        {"op": "u", "after": None, "source": {}},
        {"events": "mongodb", "text": "{a}"},
        "invalid_schema",
    ),
    "a row that is no JSON": (
        {"op": "u", "after": "{", "source": {}},
        {"events": "mongodb", "text": "{a}"},
        "invalid_json",
    ),
    "TRUNCATE": ({"op": "t", "source": {}}, {"events": "debezium", "text": "{a}"}, "unsupported_operation"),
    "an operation of the future": (
        {"op": "x", "after": {"a": 1}, "source": {}},
        {"events": "debezium", "text": "{a}"},
        "unsupported_operation",
    ),
}


@pytest.mark.parametrize(("value", "settings", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_can_not_be_indexed_has_a_reason(
    decode: Decode, make_record: MakeRecord, value: object, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(PoisonError) as caught:
        decode(make_record(b"doc-1", value), **settings)
    assert caught.value.reason == reason


def test_headers_that_can_not_be_read_are_said_so(decode: Decode, make_record: MakeRecord) -> None:
    record = replace(make_record(b"doc-1", {"text": "t"}), unreadable_headers="a header's name can't be read")
    with pytest.raises(PoisonError) as caught:
        decode(record)
    assert caught.value.reason == "invalid_headers"


def test_a_cloud_event_around_a_document_is_seen_through(decode: Decode, make_record: MakeRecord) -> None:
    event = {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": {"text": "Body."}}
    assert upserted(decode(make_record(b"doc-1", event))) == ("doc-1", "Body.", {})
