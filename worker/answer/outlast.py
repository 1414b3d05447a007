"""Answers that outlast an outage of the LLM, where that is wanted rather than answers without it."""

from collections.abc import Sequence

from worker.answer.base import Answerer
from worker.domain import Context, GeneratedAnswer, Query
from worker.resilience.outage import Patience


class OutlastingAnswerer:
    """Implements ``Answerer`` around another one. Built and used on the loop's thread."""

    def __init__(self, answerer: Answerer, patience: Patience) -> None:
        self._answerer = answerer
        self._patience = patience

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._answerer.model_name

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Return the answer; see ``Patience.call`` for when it gives up."""
        return await self._patience.call(query, lambda: self._answerer.answer(query, contexts))
