"""What a lexical file holds after puts, deletes and fills, and what is found in it."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.patience import HANG_S
from worker.recall.lexical import database
from worker.recall.lexical import file as file_module
from worker.recall.lexical.database import LexicalDamagedError, LexicalError
from worker.recall.lexical.file import LexicalFile

Search = Callable[..., list[str]]
TEXTS = {
    "mysql": "The connector reads the binary log of MySQL.",
    "postgres": "PostgreSQL needs a replication slot; ERR-4711-X means that it is gone.",
    "codes": "Errors have codes: ERR-4710-X, 4711 and X-ERR among them.",
    "cafe": "Cafés in Zürich close at ten.",
}


@pytest.fixture
def filled(writer: LexicalFile) -> LexicalFile:
    writer.put(TEXTS)
    return writer


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("ERR-4711-X", "postgres"),
        ("err-4711-x?", "postgres"),
        ("what does the CONNECTOR read", "mysql"),
        ("reading connectors", "mysql"),
        ("cafe zurich", "cafe"),
        ('"replication" AND slots NOT (', "postgres"),
    ],
)
def test_a_question_finds_the_text_that_has_its_words(search: Search, question: str, first: str) -> None:
    assert search(question)[0] == first


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("question", ["", "?!", "nothing alike", "日本語", "\x00", "*"])
def test_what_shares_no_word_finds_nothing(search: Search, question: str) -> None:
    assert search(question) == []


def test_no_more_than_asked_for_is_found(writer: LexicalFile, search: Search) -> None:
    writer.put({f"d{number}": f"kafka {number}" for number in range(20)})
    assert search("kafka", 3) == ["d0", "d1", "d2"]


def test_a_common_term_is_left_out_beside_a_rare_one(
    writer: LexicalFile, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "COMMON_CHUNKS", 49)
    writer.put({f"d{number}": f"kafka topic {number}" for number in range(50)} | {"rare": "a zebra"})
    assert search("kafka zebra") == ["rare"]
    # Where nothing is rare, what is common has to do.
    assert len(search("kafka topic")) == 10


def test_another_text_takes_the_place_of_the_former(filled: LexicalFile, search: Search) -> None:
    filled.put({"mysql": "Now about tigers."})
    assert search("tigers") == ["mysql"]
    assert "mysql" not in search("connector binary log")


def test_what_is_deleted_is_not_found(filled: LexicalFile, search: Search) -> None:
    filled.delete(["postgres", "unheard of"])
    assert search("replication slot") == []
    assert filled.ids() == TEXTS.keys() - {"postgres"}


def test_after_any_changes_the_index_is_that_of_what_is_there(writer: LexicalFile, path: Path) -> None:
    draw, there = random.Random(7), {}
    for _ in range(200):
        ids = [f"d{draw.randrange(20)}" for _ in range(draw.randrange(4))]
        if draw.random() < 0.4:
            writer.delete(ids)
            there = {key: text for key, text in there.items() if key not in ids}
        else:
            chunks = {each: " ".join(draw.choices(["red", "green", "blue", "grey"], k=3)) for each in ids}
            writer.put(chunks)
            there |= chunks
    assert writer.ids() == there.keys()
    connection = sqlite3.connect(path)
    # Compares every term of the index with the texts, and fails where they differ.
    connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    connection.close()


def test_a_file_that_nobody_has_filled_is_not_taken_for_a_whole_one(path: Path, search: Search) -> None:
    writer = LexicalFile(path, writes=True)
    writer.put(TEXTS)
    with pytest.raises(LexicalError, match="lexical rebuild") as raised:
        search("connector")
    assert raised.value.code == "lexical_missing"
    assert writer.fill(lambda: [{"a": "one connector"}, {"b": "two"}], anew=False) == 2
    assert search("connector") == ["a"]
    writer.close()


def test_a_file_that_is_missing_is_read_once_it_is_there(path: Path, search: Search) -> None:
    with pytest.raises(LexicalError) as raised:
        search("connector")
    assert raised.value.code == "lexical_missing"
    assert not path.exists()
    writer = LexicalFile(path, writes=True)
    writer.fill(lambda: [TEXTS], anew=False)
    assert search("connector") == ["mysql"]
    writer.close()


def test_a_file_that_is_filled_is_filled_again_only_if_asked(filled: LexicalFile, search: Search) -> None:
    assert filled.fill(lambda: [{"new": "tigers"}], anew=False) is None
    assert filled.ids() == TEXTS.keys()
    assert filled.fill(lambda: [{"new": "tigers"}], anew=True) == 1
    assert filled.ids() == {"new"}
    assert search("connector") == []


def test_readers_see_the_former_file_until_the_new_one_is_whole(filled: LexicalFile, search: Search) -> None:
    def pages() -> Iterator[Mapping[str, str]]:
        yield {"new": "tigers"}
        assert search("connector") == ["mysql"]
        yield {"newer": "tigers and zebras"}

    filled.fill(pages, anew=True)
    assert set(search("tigers")) == {"new", "newer"}


def test_a_fill_that_fails_leaves_what_was_there(filled: LexicalFile, search: Search) -> None:
    def pages() -> Iterator[Mapping[str, str]]:
        yield {"new": "tigers"}
        raise ConnectionRefusedError

    with pytest.raises(LexicalError):
        filled.fill(pages, anew=True)
    assert search("connector") == ["mysql"]


def test_a_damaged_file_says_so_and_is_made_anew(filled: LexicalFile, path: Path, search: Search) -> None:
    assert search("connector") == ["mysql"]
    filled.close()
    for each in path.parent.iterdir():
        each.unlink()
    path.write_bytes(b"this is no database, whatever it is called" * 100)
    with pytest.raises(LexicalDamagedError, match="lexical rebuild"):
        search("connector")
    with pytest.raises(LexicalDamagedError):
        filled.put({"a": "b"})
    assert filled.fill(lambda: [{"new": "tigers"}], anew=True) == 1
    # Who had the former open finds the new one.
    assert search("tigers") == ["new"]


def test_a_search_ends_in_time(writer: LexicalFile, reader: LexicalFile) -> None:
    writer.put({f"d{number}": f"kafka topic {number % 7}" for number in range(3_000)})
    with pytest.raises(LexicalError) as raised:
        reader.search(["kafka topic"] * 100_000, limit=3_000, deadline=time.monotonic() + 0.05)
    assert raised.value.code == "lexical_timeout"
    # The next one is not broken off by what the last one had.
    [found] = reader.search(["kafka"], limit=5, deadline=time.monotonic() + HANG_S)
    assert len(found) == 5


def test_a_write_that_another_process_keeps_waiting_is_tried_again_later(
    filled: LexicalFile, path: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.01)
    with pytest.raises(LexicalError, match="locked") as raised:
        filled.put({"new": "tigers"})
    assert raised.value.code == "lexical_failed"
    assert search("connector") == ["mysql"]
    other.execute("ROLLBACK")
    other.close()
    filled.put({"new": "tigers"})
    assert search("tigers") == ["new"]
