"""Recall that outlasts an outage of the store: the topic waits where it is, instead of going to the dead letters."""

from collections.abc import Sequence

from worker.domain import Candidate, Query
from worker.recall.base import Recall
from worker.resilience.outage import Patience


class OutlastingRecall:
    """Implements ``Recall`` around another one. Built and used on the loop's thread."""

    def __init__(self, recall: Recall, patience: Patience) -> None:
        self._recall = recall
        self._patience = patience

    async def recall(self, query: Query) -> Sequence[Candidate]:
        """Return the query's candidates; see ``Patience.call`` for when it gives up."""
        return await self._patience.call(query, lambda: self._recall.recall(query))
