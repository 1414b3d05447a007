"""Against a broken producer: when too much of a topic is poison, stop instead of draining it into dead letters.

Short: one rule, for queries and for documents.
"""

from collections import deque

from worker.errors import FatalError


class PoisonGuard:
    """Counts the last events; poison is what can't be decoded. Belongs to the loop thread."""

    def __init__(self, *, limit: float, window: int) -> None:
        """``limit`` is the share of poison, 0 to 1, that is still borne among ``window`` events; 1 bears all."""
        self._limit = limit
        self._recent: deque[bool] = deque(maxlen=window)
        self._poison = 0

    def count(self, *, poison: bool) -> None:
        """Count one more event. FatalError once the window is full and holds more poison than is borne."""
        if len(self._recent) == self._recent.maxlen:
            self._poison -= self._recent[0]
        self._recent.append(poison)
        self._poison += poison
        if len(self._recent) == self._recent.maxlen and self._poison > self._limit * len(self._recent):
            raise FatalError(
                f"{self._poison} of the last {len(self._recent)} events were poison: see `rerank-worker dlq list`, and "
                "mend their producer; RERANK_WORKER_KAFKA__POISON_LIMIT=1 sets all poison aside without stopping"
            )
