"""Identity is the record's key, in each of the forms that producers give it."""

import pytest

from worker.documents.stream.keys import document_id
from worker.errors import PoisonError

FORMS = {
    "text": (b"doc-42", "doc-42"),
    "text that is not ASCII": ("größe".encode(), "größe"),
    "a JSON string": (b'"42"', "42"),
    "one column": (b'{"id":1}', "1"),
    "one column of text": (b'{"id":"007"}', "007"),
    "several columns": (b'{"tenant":"a","id":1}', '{"id":1,"tenant":"a"}'),
    "with its schema": (b'{"schema":{"type":"struct"},"payload":{"id":30}}', "30"),
    "framed for a registry": (b'\x00\x00\x00\x00\x07{"id":1}', "1"),
    "text that only begins like JSON": (b"{draft} notes", "{draft} notes"),
    "a hash and a number, as chunks have": (b"USER#42", "USER#42"),
}


@pytest.mark.parametrize(("key", "identifier"), FORMS.values(), ids=FORMS.keys())
def test_a_key_is_the_documents_id(key: bytes, identifier: str) -> None:
    assert document_id(key) == identifier


def test_the_order_of_a_keys_columns_does_not_matter() -> None:
    assert document_id(b'{"a":1,"b":2}') == document_id(b'{"b":2,"a":1}')


MONGODB = {
    "an ObjectId": (rb'{"id":"{\"$oid\": \"596e275826f08b2730779e1f\"}"}', "596e275826f08b2730779e1f"),
    "text": (rb'{"id":"\"MySuperId\""}', "MySuperId"),
    "a number": (b'{"id":"1004"}', "1004"),
}


@pytest.mark.parametrize(("key", "identifier"), MONGODB.values(), ids=MONGODB.keys())
def test_mongodbs_extended_json_is_read(key: bytes, identifier: str) -> None:
    assert document_id(key, mongodb=True) == identifier
    assert document_id(key) != identifier or key == b'{"id":"1004"}'


def test_a_template_makes_ids_that_tables_do_not_share() -> None:
    assert document_id(b'{"id":1,"lang":"en"}', template="articles/{lang}/{id}") == "articles/en/1"


REFUSED = {
    "none": (None, "no key"),
    "empty": (b"", "no key"),
    "not text": (b"\xff\xfe", "not UTF-8"),
    "blank": (b"  ", "blank"),
    "null": (b'{"id":null}', "blank"),
    "no columns": (b"{}", "blank"),
    "too long": (b"x" * 513, "more than 512"),
    "an int of four bytes": ((5).to_bytes(4, "big"), "binary"),
    "a long of eight bytes": ((5).to_bytes(8, "big"), "binary"),
    "a long that looks framed": ((0x0700000105).to_bytes(8, "big"), "binary"),
    "a column with a control character": (b'{"id":"a\\u0000b"}', "binary"),
}


@pytest.mark.parametrize(("key", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_names_no_document_is_refused(key: bytes | None, why: str) -> None:
    with pytest.raises(PoisonError, match=why) as caught:
        document_id(key)
    assert caught.value.reason == "invalid_key"


def test_a_template_of_other_columns_is_refused_with_those_there_are() -> None:
    with pytest.raises(PoisonError, match=r"names 'number'; the columns of the key are 'id'"):
        document_id(b'{"id":1}', template="{number}")
