"""The words of one collection's chunks, in an SQLite file: FTS5, ranked by BM25.

It holds the words in their order too, by which they are taken out of the index again. What is in a collection, and who
may see it, Chroma alone says.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import structlog
from cachetools import TTLCache

from worker.recall.lexical.database import REMEDY, Database, LexicalDamagedError, LexicalError
from worker.recall.lexical.words import any_of, only_words, terms

LAYOUT = 1
"""Of a file that has all chunks of its collection; one that is being filled, or that nobody has filled, says 0."""

FILL_WAIT_S = 600.0
"""For another process to fill the file, whose work need not be done again."""

COMMON_CHUNKS = 10_000
"""A term of more chunks than that tells them hardly apart and is left out beside rarer ones, so that a search takes no
longer in a larger collection."""
COUNTS_KEPT, COUNTS_KEPT_S = 4_096, 600.0
"""Terms of which it is remembered, and for how long, whether they are common."""

_BEST = (
    "SELECT id FROM chunks JOIN (SELECT rowid AS number, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?) "
    "USING (number) ORDER BY rank, number"
)
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_TAKE_OUT = "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)"

Pages = Callable[[], Iterable[Mapping[str, str]]]
"""Gives all chunks, text by id, some at a time."""

logger = structlog.get_logger()


class LexicalFile:
    """One collection's. Blocking; call it from one thread at a time."""

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        """Open nothing yet; ``writes``: make the file where there is none."""
        self._path = path
        self._database = Database(path, writes=writes)
        self._common: TTLCache[str, bool] = TTLCache(COUNTS_KEPT, COUNTS_KEPT_S)

    def search(self, texts: Sequence[str], *, limit: int, deadline: float) -> list[list[str]]:
        """Return for each text the ids of the ``limit`` chunks that share the most telling words with it, best first.

        Ends by ``deadline`` (``time.monotonic()``). Raises LexicalError (too late, no file, not filled, not to be read)
        or LexicalDamagedError.
        """
        with self._database.reading(deadline=deadline) as connection:
            if not _is_filled(connection):
                raise LexicalError(f"{self._path} is not filled: {REMEDY}", code="lexical_missing")
            return [self._best(connection, text, limit) for text in texts]

    def put(self, chunks: Mapping[str, str]) -> None:
        """Have the words of these texts, by id, whatever was there before; what is there just so is not written.

        Raises LexicalError (another process holds the file, the disk is full) or LexicalDamagedError.
        """
        if chunks:
            with self._database.writing() as connection:
                _put(connection, chunks)

    def delete(self, ids: Sequence[str]) -> None:
        """Have none of these. Raises as ``put``."""
        if ids:
            with self._database.writing() as connection:
                for identifier in ids:
                    _take_out(connection, identifier)

    def fill(self, pages: Pages, *, anew: bool) -> int | None:
        """Have what ``pages`` gives and nothing else, all at once: who reads meanwhile sees what was there before.

        Returns how many chunks that are; None if it was filled already and is not to be made ``anew``. Whoever wants to
        write waits until it is done, so that nothing written to the collection meanwhile is missed: ``pages`` is called
        once the file is held. A damaged one is made anew. Raises as ``put``, and whatever ``pages`` raises.
        """
        try:
            return self._fill(pages, anew=anew)
        except LexicalDamagedError as error:
            logger.warning("a lexical file is damaged and made anew", reason=str(error))
            self._database.remove()
            return self._fill(pages, anew=True)

    def ids(self) -> set[str]:
        """Return the ids of all chunks. Raises as ``search``."""
        with self._database.reading() as connection:
            return {identifier for (identifier,) in connection.execute("SELECT id FROM chunks")}

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._database.close()

    def _best(self, connection: sqlite3.Connection, text: str, limit: int) -> list[str]:
        asked = terms(text)
        telling = [term for term in asked if not self._is_common(connection, term)]
        wanted = any_of(telling or asked)
        return [identifier for (identifier,) in connection.execute(_BEST, (wanted, limit))] if wanted else []

    def _is_common(self, connection: sqlite3.Connection, term: str) -> bool:
        known = self._common.get(term)
        if known is None:
            [found] = connection.execute(_COUNT, (any_of([term]), COMMON_CHUNKS + 1)).fetchone()
            known = self._common[term] = found > COMMON_CHUNKS
        return known

    def _fill(self, pages: Pages, *, anew: bool) -> int | None:
        if not anew:
            with self._database.reading() as connection:
                if _is_filled(connection):
                    return None
        with self._database.writing(wait_s=FILL_WAIT_S) as connection:
            # Another process may have filled it while this one waited.
            if _is_filled(connection) and not anew:
                return None
            connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
            connection.execute("DELETE FROM chunks")
            for page in pages():
                _put(connection, page)
            # Few large pieces of index are searched faster than many small ones.
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
            [count] = connection.execute("SELECT count(*) FROM chunks").fetchone()
            return int(count)


def _is_filled(connection: sqlite3.Connection) -> bool:
    [layout] = connection.execute("PRAGMA user_version").fetchone()
    return bool(layout == LAYOUT)


def _put(connection: sqlite3.Connection, chunks: Mapping[str, str]) -> None:
    for identifier, raw in chunks.items():
        text = only_words(raw)
        row = connection.execute("SELECT text FROM chunks WHERE id = ?", (identifier,)).fetchone()
        if row == (text,):
            continue
        _take_out(connection, identifier)
        number = connection.execute("INSERT INTO chunks (id, text) VALUES (?, ?)", (identifier, text)).lastrowid
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text))


def _take_out(connection: sqlite3.Connection, identifier: str) -> None:
    row = connection.execute("SELECT number, text FROM chunks WHERE id = ?", (identifier,)).fetchone()
    if row is not None:
        connection.execute(_TAKE_OUT, row)
        connection.execute("DELETE FROM chunks WHERE number = ?", row[:1])
