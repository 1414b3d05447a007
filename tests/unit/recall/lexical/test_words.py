"""What is asked of the index for a question: all its words, and no operators."""

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.recall.lexical.words import MOST_TERMS, any_of, only_words, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is a B-tree?", ["B tree", "B", "tree"]),
        ("ERR-4711-X", ["ERR 4711 X", "ERR", "4711", "X"]),
        ("snake_case", ["snake case", "snake", "case"]),
        ("twice, twice", ["twice"]),
        ('NOT "a" OR (b* ^c) : {d} + NEAR', ["b", "c", "d", "NEAR"]),
        ("To be, or not to be", ["To", "be", "or", "not", "to"]),
        ("?!… -- ''", []),
        ("", []),
        ("日本語 テスト", ["日本語", "テスト"]),
        ("cafe\u0301s", ["cafés"]),
    ],
)
def test_a_text_is_its_words_and_what_stands_together(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_long_text_is_asked_by_its_beginning() -> None:
    found = terms(" ".join(f"word{number}" for number in range(1_000)))
    assert found == [f"word{number}" for number in range(MOST_TERMS)]
    assert len(terms("-".join(f"w{number}" for number in range(1_000)))) == MOST_TERMS


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    yield connection
    connection.close()


def matches(connection: sqlite3.Connection, expression: str) -> int:
    [found] = connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (expression,)).fetchone()
    return int(found)


@given(text=st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_an_error_to_the_index(connection: sqlite3.Connection, text: str) -> None:
    expression = any_of(terms(text))
    if expression:
        assert matches(connection, expression) == 0


@given(text=st.text(max_size=60) | st.text("aB9é-_ 🙐\u0301日", max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_is_found_by_each_of_its_words(connection: sqlite3.Connection, text: str) -> None:
    connection.execute("DELETE FROM words")
    connection.execute("INSERT INTO words VALUES (?)", (only_words(text),))
    # Of scripts that were encoded after 2012 the index may know no letters.
    for term in filter(str.isascii, terms(text)):
        assert matches(connection, any_of([term])) == 1, term
