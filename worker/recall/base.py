"""The recall stage's seam."""

from collections.abc import Sequence
from typing import Protocol

from worker.types import Candidate, Query


class Recall(Protocol):
    """Finds a query's candidates in the vector store."""

    async def recall(self, query: Query) -> Sequence[Candidate]:
        """Return at most ``query.top_k`` candidates, nearest first; empty if the collection has none.

        Raises PoisonError (unknown collection, a filter the store rejects), TransientError (the store
        cannot be reached or timed out) or FatalError (the collection was built with another model).
        Cancelling the call takes the query out of a batch that has not started.
        """
        ...
