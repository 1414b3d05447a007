"""Answers that were paid for: a query that is delivered again is answered from the store, not by the LLM."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence

import structlog

from worker.answer.base import Answerer
from worker.answer.cache import AnswerStore
from worker.answer.prompt import SYSTEM_PROMPT
from worker.domain import Context, GeneratedAnswer, Query
from worker.settings import AnswerSettings

logger = structlog.get_logger()


class StoredAnswerer:
    """Implements ``Answerer`` around another one: asks the store first, and keeps what the other one makes.

    The same query id alone is no hit: question, contexts, model and prompt must be the same too. A store that fails
    costs an LLM call, never a query.
    """

    def __init__(
        self, answerer: Answerer, store: AnswerStore, settings: AnswerSettings, *, on_lookup: Callable[[str], None]
    ) -> None:
        """``on_lookup`` is told ``hit``, ``miss`` or ``failed``."""
        self._answerer = answerer
        self._store = store
        self._on_lookup = on_lookup
        self._parameters = [answerer.model_name, SYSTEM_PROMPT, settings.max_tokens, settings.temperature]

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
            await self._store.put(key, made)
        except sqlite3.Error as error:
            logger.warning("an answer could not be kept", query_id=query.id, reason=str(error))
        return made

    async def _look_up(self, key: str) -> GeneratedAnswer | None:
        try:
            kept = await self._store.get(key)
        except (sqlite3.Error, ValueError) as error:
            logger.warning("the answer store could not be read", reason=str(error))
            self._on_lookup("failed")
            return None
        self._on_lookup("miss" if kept is None else "hit")
        return kept

    def _key(self, query: Query, contexts: Sequence[Context]) -> str:
        passages = [[context.candidate.document_id, context.candidate.text] for context in contexts]
        asked = json.dumps([query.id, query.text, passages, *self._parameters])
        return hashlib.sha256(asked.encode()).hexdigest()
