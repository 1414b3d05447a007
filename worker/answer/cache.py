"""Answers that were paid for, kept in a file: a query that is delivered again is answered from it, not by the LLM."""

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
from pydantic import TypeAdapter

from worker.batching.executor import SingleThreadExecutor
from worker.domain import Answerer, Context, GeneratedAnswer, Query
from worker.errors import FatalError
from worker.settings import AnswerSettings

logger = structlog.get_logger()

CLOSE_TIMEOUT_S = 10.0
# Another worker on the same file writes for milliseconds; a disk that takes longer is not waited for.
BUSY_TIMEOUT_S = 2.0
# Expired and surplus answers go with every so many new ones.
SWEEP_EVERY = 100
# Raised whenever a kept answer could no longer be read.
LAYOUT = 1

_IN_THE_REQUEST = {
    "max_tokens",
    "max_tokens_field",
    "temperature",
    "extra_body",
    "system_prompt",
    "user_prompt",
    "question_tokens",
    "passage_tokens",
}
_ANSWER = TypeAdapter(GeneratedAnswer)

_CREATE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, made_at_s REAL NOT NULL, answer BLOB NOT NULL)"
_DELETE_SURPLUS = "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY made_at_s DESC LIMIT -1 OFFSET ?)"


class CachedAnswerer:
    """Implements ``Answerer`` around another one: asks the cache first, and keeps what the other one makes.

    The same query id alone is no hit: question, contexts, model and prompt must be the same too. A cache that fails
    costs an LLM call, never a query.
    """

    def __init__(
        self, answerer: Answerer, cache: "AnswerCache", settings: AnswerSettings, *, on_lookup: Callable[[str], None]
    ) -> None:
        """``on_lookup`` is told ``hit``, ``miss`` or ``failed``."""
        self._answerer = answerer
        self._cache = cache
        self._on_lookup = on_lookup
        # Whatever the request is made of, but for question and passages.
        self._parameters = [answerer.model_name, settings.model_dump(mode="json", include=_IN_THE_REQUEST)]

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._answerer.model_name

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Return the answer that is kept, or the one that is made now; see ``Answerer``."""
        key = self._key(query, contexts)
        kept = await self._look_up(key)
        if kept is not None:
            return kept
        made = await self._answerer.answer(query, contexts)
        try:
            await self._cache.put(key, made)
        except sqlite3.Error as error:
            logger.warning("an answer could not be kept", query_id=query.id, reason=str(error))
        return made

    async def _look_up(self, key: str) -> GeneratedAnswer | None:
        try:
            kept = await self._cache.get(key)
        except (sqlite3.Error, ValueError) as error:
            logger.warning("the answer store could not be read", reason=str(error))
            self._on_lookup("failed")
            return None
        self._on_lookup("miss" if kept is None else "hit")
        return kept

    def _key(self, query: Query, contexts: Sequence[Context]) -> str:
        passages = [[context.candidate.document_id, context.judged_text] for context in contexts]
        asked = json.dumps([query.id, query.text, passages, *self._parameters])
        return hashlib.sha256(asked.encode()).hexdigest()


class AnswerCache:
    """A table from key to answer, in an SQLite file that workers of one host may share. Used from the loop."""

    def __init__(
        self, path: Path, *, ttl_s: float, max_answers: int, unix_time_s: Callable[[], float] = time.time
    ) -> None:
        """Open the file, or make it; one that is damaged or of another layout is set aside.

        Raises FatalError if none can be made there.
        """
        self._ttl_s = ttl_s
        self._max_answers = max_answers
        self._unix_time_s = unix_time_s
        self._puts = 0
        path = path.expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise FatalError(f"answer.store_path: {path} can't be used: {error}") from error
        self._thread = SingleThreadExecutor("answer-store")

    async def get(self, key: str) -> GeneratedAnswer | None:
        """Return the answer, unless there is none or it is older than ``ttl_s``. Raises sqlite3.Error."""
        return await self._thread.run(partial(self._get, key))

    async def put(self, key: str, answer: GeneratedAnswer) -> None:
        """Keep an answer. Raises sqlite3.Error."""
        await self._thread.run(partial(self._put, key, answer))

    async def close(self) -> None:
        """Close the file, in bounded time."""
        self._thread.submit(self._connection.close)
        self._thread.close()
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    def _get(self, key: str) -> GeneratedAnswer | None:
        oldest_s = self._unix_time_s() - self._ttl_s
        found = self._connection.execute(
            "SELECT answer FROM answers WHERE key = ? AND made_at_s > ?", (key, oldest_s)
        ).fetchone()
        return None if found is None else _ANSWER.validate_json(found[0])

    def _put(self, key: str, answer: GeneratedAnswer) -> None:
        now_s = self._unix_time_s()
        self._puts += 1
        with self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, now_s, _ANSWER.dump_json(answer))
            )
            if self._puts % SWEEP_EVERY == 0:
                self._connection.execute("DELETE FROM answers WHERE made_at_s <= ?", (now_s - self._ttl_s,))
                self._connection.execute(_DELETE_SURPLUS, (self._max_answers,))


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not path.is_file() or isinstance(error, sqlite3.OperationalError):
            raise
        aside = path.with_name(f"{path.name}.unreadable")
        path.replace(aside)
        logger.warning("the answer store is no such file and was set aside", reason=str(error), now=str(aside))
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    # Used on one thread after this one; SQLite would insist on this one.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        # A crash of the machine may take the last answers with it, never the file.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        [layout] = connection.execute("PRAGMA user_version").fetchone()
        if layout not in {0, LAYOUT}:
            raise sqlite3.DatabaseError(f"its layout is {layout}, not {LAYOUT}")  # noqa: TRY301 - closed below
        with connection:
            connection.execute(_CREATE)
            connection.execute("CREATE INDEX IF NOT EXISTS answers_by_age ON answers (made_at_s)")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
    except BaseException:
        connection.close()
        raise
    return connection
