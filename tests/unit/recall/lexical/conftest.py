"""A lexical file on disk, as writers and readers open it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import HANG_S
from worker.recall.lexical.file import LexicalFile

Search = Callable[..., list[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lexical" / "words.sqlite3"


@pytest.fixture
def writer(path: Path) -> Iterator[LexicalFile]:
    """A file that holds all of an empty collection."""
    file = LexicalFile(path, writes=True)
    file.fill(list, anew=False)
    yield file
    file.close()


@pytest.fixture
def reader(path: Path) -> Iterator[LexicalFile]:
    file = LexicalFile(path)
    yield file
    file.close()


@pytest.fixture
def search(reader: LexicalFile) -> Search:
    def run(text: str, limit: int = 10) -> list[str]:
        [found] = reader.search([text], limit=limit, deadline=time.monotonic() + HANG_S)
        return found

    return run
