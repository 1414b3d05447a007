from collections.abc import Callable
from dataclasses import replace

from worker.documents.chunker import Chunker
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
