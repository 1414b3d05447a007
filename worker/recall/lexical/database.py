"""The SQLite file under a lexical index: opened when needed, anew when another takes its place; its failures are ours.

Processes of one machine share a file: any number read while one writes (WAL, which needs a local disk).
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from worker.errors import FatalError, TransientError

BUSY_TIMEOUT_S = 5.0
"""Another process writes a batch in milliseconds; a whole rebuild takes longer, and who writes then tries again."""
READ_TIMEOUT_S = 1.0
"""Nobody keeps readers waiting but who mends the file after a crash."""

STEPS_BETWEEN_LOOKS = 2_000
"""SQLite's, at the clock: well under a millisecond."""

REMEDY = "`rerank-worker lexical rebuild` makes it anew"

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS chunks (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL)",
    """CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
        text, content = 'chunks', content_rowid = 'number', tokenize = 'porter unicode61 remove_diacritics 2'
    )""",
)


class LexicalError(TransientError):
    """The file gives or takes nothing now."""

    def __init__(self, message: str, *, code: str) -> None:
        """``code`` says why, stable."""
        super().__init__(message, code=code)
        self.code: str = code


class LexicalDamagedError(FatalError):
    """The file is none, or no longer one: for who writes there is no going on before it is made anew."""


class Database:
    """One file. Blocking; call it from one thread at a time."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        """Open nothing yet; ``writes``: make the file where there is none."""
        self.path = path
        self._writes = writes
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @contextmanager
    def reading(self, *, deadline: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield the connection; what it runs is broken off at ``deadline`` (``time.monotonic()``).

        Raises LexicalError (too late, no file, one that can't be used) or LexicalDamagedError.
        """
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

    @contextmanager
    def writing(self, *, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, which nobody else writes beside.

        Waits ``wait_s`` for others' to end, as long as a batch takes if not given.

        Raises as ``reading``; whatever is raised, nothing was written.
        """
        with self.reading() as connection:
            longest_s = BUSY_TIMEOUT_S if wait_s is None else wait_s
            connection.execute(f"PRAGMA busy_timeout = {int(longest_s * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def remove(self) -> None:
        """Take the file away; who has it open sees so at the next call."""
        self.close()
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode:
            self.close()
        if self._connection is None:
            if not inode and not self._writes:
                raise LexicalError(f"{self.path} does not exist: {REMEDY}", code="lexical_missing")
            self._connection = _connect(self.path, make=self._writes)
            self._inode = self.path.stat().st_ino
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
    # A thread that is left behind is closed by another; SQLite would insist on one.
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
