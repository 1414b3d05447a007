"""The words of one collection's chunks, in an SQLite file: FTS5, ranked by BM25.

Processes of one machine share it: any number read while one writes (WAL, which needs a local disk). It holds texts only
so that they can be taken out of the index again; what is in a collection, and who may see it, Chroma alone says.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog
from cachetools import TTLCache

from worker.errors import FatalError, TransientError
from worker.recall.lexical.words import any_of, terms

LAYOUT = 1
"""Of a file that has all chunks of its collection; one that is being filled, or that nobody has filled, says 0."""

BUSY_TIMEOUT_S = 5.0
"""Another process writes a batch in milliseconds; a whole rebuild takes longer, and who writes then tries again."""
READ_TIMEOUT_S = 0.2
"""Nobody keeps readers waiting but who mends the file after a crash."""
REBUILD_WAIT_S = 600.0
"""For another process to end its rebuild, whose work need not be done again."""

COMMON_SHARE = 0.05
"""A term of more chunks than that tells them hardly apart and takes most of the time: left out beside rarer ones."""
LEAST_COMMON = 10
COUNTS_KEPT, COUNTS_KEPT_S = 4_096, 600.0

STEPS_BETWEEN_LOOKS = 2_000
"""SQLite's, at the clock: well under a millisecond."""

logger = structlog.get_logger()

REMEDY = "`rerank-worker lexical rebuild` makes it anew"

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS chunks (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL)",
    """CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
        text, content = 'chunks', content_rowid = 'number', tokenize = 'porter unicode61 remove_diacritics 2'
    )""",
)
_BEST = (
    "SELECT id FROM chunks JOIN (SELECT rowid AS number, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?) "
    "USING (number) ORDER BY rank, number"
)
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_TAKE_OUT = "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)"


class LexicalError(TransientError):
    """The file gives or takes nothing now; ``code`` says why."""


class LexicalDamagedError(FatalError):
    """The file is none, or no longer one: for who writes there is no going on before it is made anew."""

    code = "lexical_damaged"


class LexicalFile:
    """One collection's. Blocking; call it from one thread at a time. It is opened anew when another takes its place."""

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        """Open nothing yet; ``writes``: make the file where there is none."""
        self.path = path
        self._writes = writes
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._common: TTLCache[str, bool] = TTLCache(COUNTS_KEPT, COUNTS_KEPT_S)

    def search(self, texts: Sequence[str], *, limit: int, deadline: float) -> list[list[str]]:
        """Return for each text the ids of the ``limit`` chunks that share the most telling words with it, best first.

        Ends by ``deadline`` (``time.monotonic()``). Raises LexicalError (too late, no file, not filled, not to be read)
        or LexicalDamagedError.
        """
        with self._using(deadline) as connection:
            if not _is_complete(connection):
                raise LexicalError(f"{self.path} is not filled: {REMEDY}", code="lexical_missing")
            return [self._best(connection, text, limit) for text in texts]

    def put(self, chunks: Mapping[str, str]) -> None:
        """Have these texts by id, whatever was there before; what is there just so is not written.

        Raises LexicalError (another process holds the file, the disk is full) or LexicalDamagedError.
        """
        if chunks:
            with self._writing() as connection:
                _put(connection, chunks)

    def delete(self, ids: Sequence[str]) -> None:
        """Have none of these. Raises as ``put``."""
        if ids:
            with self._writing() as connection:
                for identifier in ids:
                    _take_out(connection, identifier)

    def fill(self, pages: Callable[[], Iterable[Mapping[str, str]]], *, anew: bool) -> int | None:
        """Have what ``pages`` gives and nothing else, all at once: who reads meanwhile sees what was there before.

        Returns how many chunks that are; None if it was filled already and is not to be made ``anew``. Whoever wants to
        write waits until it is done, so that nothing written to the collection meanwhile is missed: ``pages`` is called
        once the file is held. A damaged one is made anew. Raises as ``put``, and whatever ``pages`` raises.
        """
        try:
            return self._fill(pages, anew=anew)
        except LexicalDamagedError as error:
            logger.warning("a lexical file is damaged and made anew", reason=str(error))
            self._remove()
            return self._fill(pages, anew=True)

    def ids(self) -> set[str]:
        """Return the ids of all chunks. Raises as ``search``."""
        with self._using() as connection:
            return {identifier for (identifier,) in connection.execute("SELECT id FROM chunks")}

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _best(self, connection: sqlite3.Connection, text: str, limit: int) -> list[str]:
        asked = terms(text)
        [most] = connection.execute("SELECT coalesce(max(number), 0) FROM chunks").fetchone()
        too_many = max(LEAST_COMMON, int(most * COMMON_SHARE)) + 1
        telling = [term for term in asked if not self._is_common(connection, term, too_many)]
        wanted = any_of(telling or asked)
        return [identifier for (identifier,) in connection.execute(_BEST, (wanted, limit))] if wanted else []

    def _is_common(self, connection: sqlite3.Connection, term: str, too_many: int) -> bool:
        known = self._common.get(term)
        if known is None:
            [found] = connection.execute(_COUNT, (any_of([term]), too_many)).fetchone()
            known = self._common[term] = found >= too_many
        return known

    def _fill(self, pages: Callable[[], Iterable[Mapping[str, str]]], *, anew: bool) -> int | None:
        with self._writing(wait_s=REBUILD_WAIT_S) as connection:
            if _is_complete(connection) and not anew:
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

    def _remove(self) -> None:
        self.close()
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    @contextmanager
    def _writing(self, *, wait_s: float = BUSY_TIMEOUT_S) -> Iterator[sqlite3.Connection]:
        with self._using() as connection:
            connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _using(self, deadline: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield the connection; what SQLite says leaves as an error of ours."""
        try:
            connection = self._connected()
            if deadline is not None:
                connection.set_progress_handler(partial(_is_over, deadline), STEPS_BETWEEN_LOOKS)
            yield connection
        except (OSError, sqlite3.OperationalError) as error:
            if deadline is not None and _is_over(deadline):
                raise LexicalError(f"{self.path} gave nothing in time", code="lexical_timeout") from error
            raise LexicalError(f"{self.path} can't be used: {error}", code="lexical_failed") from error
        except sqlite3.DatabaseError as error:
            raise LexicalDamagedError(f"{self.path} is damaged ({error}): {REMEDY}") from error
        finally:
            if self._connection is not None:
                self._connection.set_progress_handler(None, 0)

    def _connected(self) -> sqlite3.Connection:
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if self._connection is not None and inode != self._inode:
            self.close()
        if self._connection is None:
            if not inode and not self._writes:
                raise LexicalError(f"{self.path} does not exist: {REMEDY}", code="lexical_missing")
            self._connection = _connect(self.path, make=self._writes)
            self._inode = self.path.stat().st_ino
            self._common.clear()
        return self._connection


def require_fts5() -> None:
    """Raise FatalError if this Python's SQLite was built without full-text search."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
    except sqlite3.OperationalError as error:
        raise FatalError(
            f"recall.lexical_path needs SQLite with FTS5, and this Python's ({sqlite3.sqlite_version}) has none: "
            "use another build of Python, or leave the setting out"
        ) from error
    finally:
        connection.close()


def _is_over(deadline: float) -> bool:
    return time.monotonic() >= deadline


def _connect(path: Path, *, make: bool) -> sqlite3.Connection:
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Not read-only: the first reader of a file that nobody has open makes what readers and writers share of it.
    # Its thread is left behind and closed by another; SQLite would insist on one.
    where = f"{path.absolute().as_uri()}?mode={'rwc' if make else 'rw'}"
    wait_s = BUSY_TIMEOUT_S if make else READ_TIMEOUT_S
    connection = sqlite3.connect(where, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)
    try:
        if make:
            connection.execute("PRAGMA journal_mode = WAL")
            # What is committed to Kafka after this must not go with the machine's power.
            connection.execute("PRAGMA synchronous = FULL")
            for statement in _SCHEMA:
                connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_complete(connection: sqlite3.Connection) -> bool:
    [layout] = connection.execute("PRAGMA user_version").fetchone()
    return bool(layout == LAYOUT)


def _put(connection: sqlite3.Connection, chunks: Mapping[str, str]) -> None:
    for identifier, text in chunks.items():
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
