"""The answer stage's seam."""

from collections.abc import Sequence
from typing import Protocol

from worker.domain import Context, GeneratedAnswer, Query


class Answerer(Protocol):
    """Answers a query from its contexts, and from nothing else."""

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        ...

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Answer from ``contexts`` (never empty). Raises TransientError after its own retries, or FatalError."""
        ...
