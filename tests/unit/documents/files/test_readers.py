import os
from pathlib import Path

import pytest

from worker.documents.document import Document, Rejected
from worker.documents.files import readers
from worker.documents.files.readers import find, read
from worker.errors import FatalError


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_jsonl_gives_a_document_per_line() -> None:
    path = Path("corpus.jsonl")
    path.write_text(
        '{"id": "a", "text": "One.", "title": "First", "metadata": {"year": 1999, "tags": ["x"], "none": null}}\n'
        "\n"
        '{"id": 7, "content": "Two."}\n'
        '{"text": "Three."}\n'
        '{"_id": "beir-4", "title": "", "text": "Four."}\n',
        encoding="utf-8-sig",
    )
    first, second, third, fourth = read(path)
    assert first == Document(
        id="a",
        text="One.",
        source="corpus.jsonl",
        origin="corpus.jsonl:1",
        metadata={"source": "corpus.jsonl", "title": "First", "year": 1999, "tags": '["x"]'},
    )
    assert (second.id, second.text) == ("7", "Two.")
    assert (third.id, third.origin) == ("corpus.jsonl:4", "corpus.jsonl:4")
    assert (fourth.id, fourth.text) == ("beir-4", "Four.")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "a", "text": ', "JSON"),
        (b'["a"]', "object"),
        (b'{"id": "a"}', "text"),
        (b'{"text": 5}', "text"),
        (b'{"text": "a", "id": [1]}', "id"),
        (b'{"text": "a", "metadata": "no"}', "metadata"),
        (b'{"text": "a", "metadata": {"big": 99999999999999999999}}', "metadata.big"),
        (b'{"text": "a", "metadata": {"nan": NaN}}', "metadata.nan"),
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (rb'{"text": "\ud800"}', "JSON"),
    ],
)
def test_a_bad_line_is_rejected_with_its_place_and_reason_and_the_rest_is_read(line: bytes, reason: str) -> None:
    path = Path("corpus.jsonl")
    path.write_bytes(b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    before, rejected, after = read(path)
    assert isinstance(rejected, Rejected)
    assert rejected.origin == "corpus.jsonl:2"
    assert reason in rejected.reason
    assert (before.text, after.text) == ("before", "after")


def test_csv_gives_a_document_per_row_and_other_columns_as_metadata() -> None:
    path = Path("corpus.csv")
    path.write_text('id,text,title,lang\na,"One,\ntwo",First,en\nb,Three,,\n', encoding="utf-8-sig")
    first, second = read(path)
    assert (first.id, first.text) == ("a", "One,\ntwo")
    assert first.metadata == {"source": "corpus.csv", "title": "First", "lang": "en"}
    assert second.metadata == {"source": "corpus.csv"}


@pytest.mark.parametrize(
    ("content", "origin", "reason"),
    [
        (b"id,text\na,b,c\n", "corpus.csv:2", "more cells"),
        (b"id,body\na,b\n", "corpus.csv:1", "no column text or content; found 'id', 'body'"),
        (b"id;text\na;b\n", "corpus.csv:1", "separated by ';'"),
        (b"id,text\na\n", "corpus.csv:2", "text"),
        (b"id,text\na,caf\xe9\n", "corpus.csv:2", "not UTF-8"),
    ],
)
def test_a_bad_row_is_rejected_with_its_place_and_reason(content: bytes, origin: str, reason: str) -> None:
    path = Path("corpus.csv")
    path.write_bytes(content)
    [rejected] = read(path)
    assert isinstance(rejected, Rejected)
    assert rejected.origin == origin
    assert reason in rejected.reason


@pytest.mark.parametrize(
    "bad",
    [b"bad,caf\xe9\n", b'bad,"' + b"x" * 200 + b'"\n', b"a,b,c\n"],
    ids=["not UTF-8", "larger than a cell may be", "too many cells"],
)
def test_one_bad_row_does_not_take_those_behind_it(bad: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_CELL_CHARS", 100)
    Path("corpus.csv").write_bytes(b"id,text\nbefore,One\n" + bad + b"after,Two\nlast,Three\n")
    before, rejected, after, last = read(Path("corpus.csv"))
    assert isinstance(rejected, Rejected)
    assert rejected.origin == "corpus.csv:3"
    assert [before.id, after.id, last.id] == ["before", "after", "last"]


def test_a_cell_longer_than_python_reads_by_default_is_a_document() -> None:
    text = "word " * 30_000
    Path("corpus.csv").write_text(f"id,text\na,short\nb,{text}\nc,short\n")
    assert [len(document.text) for document in read(Path("corpus.csv"))] == [5, len(text), 5]


def test_a_folder_gives_all_it_has_in_order_and_counts_what_it_leaves() -> None:
    folder = Path("my docs")
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "b.txt").write_text("Plain.")
    (folder / "deep" / "a.md").write_text("intro\n# The Title\n\nText.")
    (folder / "deep" / "rows.csv").write_text("id,text\nrow,A row.\n")
    (folder / "lines.jsonl").write_text('{"text": "A line."}\n')
    (folder / ".git" / "hidden.md").write_text("no")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / "Makefile").touch()
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "wide.txt").write_text("text", encoding="utf-16")
    found = find([folder])
    assert found.skipped == {".png": 1, "without an ending": 1}
    plain, markdown, row, latin, line, wide = found.read()
    assert (plain.id, plain.format, plain.metadata["title"]) == ("my docs/b.txt", "text", "b")
    assert (markdown.id, markdown.format, markdown.metadata["title"]) == ("my docs/deep/a.md", "markdown", "The Title")
    assert (row.id, row.metadata["source"]) == ("row", "my docs/deep/rows.csv")
    assert line.id == "my docs/lines.jsonl:1"
    assert {each.source for each in (plain, markdown, row, line, latin, wide)} == {"my docs"}
    assert isinstance(latin, Rejected)
    assert "(byte 0xe9)" in latin.reason
    assert isinstance(wide, Rejected)
    assert "iconv -f utf-16" in wide.reason


def test_a_file_whose_name_is_no_text_is_rejected_by_a_name_that_is() -> None:
    Path("docs").mkdir()
    Path("docs/good.txt").write_text("Good.")
    Path(os.fsdecode(b"docs/caf\xe9.txt")).write_text("Bad.")
    bad, good = read(Path("docs"))
    assert isinstance(bad, Rejected)
    assert bad.origin == r"docs/caf\xe9.txt"
    assert good.text == "Good."


def test_a_file_that_can_not_be_read_does_not_take_the_others() -> None:
    Path("docs").mkdir()
    for name in ("a.csv", "b.jsonl", "c.md"):
        Path("docs", name).touch()
    Path("docs/d.txt").write_text("Good.")
    found = find([Path("docs")])
    for name in ("a.csv", "b.jsonl", "c.md"):
        Path("docs", name).unlink()
    *gone, good = found.read()
    assert [each.reason for each in gone] == ["cannot be read: No such file or directory"] * 3
    assert good.text == "Good."


@pytest.mark.parametrize("name", ["nowhere.jsonl", "corpus.pdf"])
def test_what_cannot_be_read_at_all_is_told_with_what_can(name: str) -> None:
    Path("corpus.pdf").touch()
    with pytest.raises(FatalError, match=rf"{name}.*\.jsonl"):
        read(Path(name))


def test_a_folder_without_texts_is_told() -> None:
    Path("empty").mkdir()
    with pytest.raises(FatalError, match=r"empty holds no text.*\.md"):
        list(read(Path("empty")))
