from collections.abc import Callable
from dataclasses import replace

import pytest

from worker.documents.chunker import MAX_CHUNK_CHARS, Chunker
from worker.documents.document import Document

MakeDocument = Callable[..., Document]

LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen."


def test_a_short_document_is_one_chunk_under_its_own_id(chunker: Chunker, make_document: MakeDocument) -> None:
    [chunk] = chunker.chunks(make_document("a", " One two three. ", title="T"))
    assert (chunk.id, chunk.text, chunk.metadata) == ("a", "One two three.", {"title": "T"})


def test_a_long_document_is_cut_at_sentences(chunker: Chunker, make_document: MakeDocument) -> None:
    chunks = chunker.chunks(make_document("a", LONG))
    assert [chunk.id for chunk in chunks] == ["a", "a#2", "a#3"]
    assert [chunk.metadata for chunk in chunks] == [{"chunk": 1}, {"chunk": 2}, {"chunk": 3}]
    assert " ".join(chunk.text for chunk in chunks) == LONG


def test_markdown_is_cut_at_headings(chunker: Chunker, make_document: MakeDocument) -> None:
    text = "# One\n\nFirst text here.\n\n# Two\n\nSecond text here, too."
    chunks = chunker.chunks(replace(make_document("a", text), format="markdown"))
    assert [chunk.text.splitlines()[0] for chunk in chunks] == ["# One", "# Two"]


def test_a_blank_document_has_no_chunks(chunker: Chunker, make_document: MakeDocument) -> None:
    assert chunker.chunks(make_document("a", "")) == []
    assert chunker.chunks(make_document("a", " \n\t ")) == []


WORDS = "One two three four five. " * 4_000


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "x" + " " * 99_999 + "y", "漢字" * 50_000, WORDS, WORDS.replace(" ", "\n\n")],
    ids=["no spaces", "spaces", "Chinese", "sentences", "paragraphs"],
)
def test_nothing_of_a_long_text_is_lost_and_no_chunk_is_long(
    chunker: Chunker, make_document: MakeDocument, text: str
) -> None:
    chunks = [chunk.text for chunk in chunker.chunks(make_document("a", text))]
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert max(map(len, chunks)) <= MAX_CHUNK_CHARS


def test_a_long_text_is_cut_between_words(chunker: Chunker, make_document: MakeDocument) -> None:
    words = {word for chunk in chunker.chunks(make_document("a", WORDS)) for word in chunk.text.split()}
    assert words == set(WORDS.split())


def test_the_hash_changes_with_text_and_metadata_and_with_nothing_else(
    chunker: Chunker, make_document: MakeDocument
) -> None:
    def content_hash(document: Document) -> str:
        return chunker.chunks(document)[0].content_hash

    base = make_document("a", "text", title="T", topic="X")
    assert content_hash(base) == content_hash(make_document("b", "text", topic="X", title="T"))
    assert content_hash(base) != content_hash(make_document("a", "text!", title="T", topic="X"))
    assert content_hash(base) != content_hash(make_document("a", "text", title="T", topic="Y"))
    assert content_hash(base) != content_hash(make_document("a", "text", source="other", title="T", topic="X"))
