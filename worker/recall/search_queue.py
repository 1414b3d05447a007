"""Queries that wait for a search, and which of them share the next call."""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from worker.domain import Candidate, Query
from worker.errors import ExpiredError
from worker.recall.embedder import Vector


@dataclass(slots=True, eq=False)
class WaitingQuery:
    """One query whose caller waits. Times are on the loop's clock."""

    query: Query
    vector: Vector
    key: Hashable
    """Queries of one key can share a call."""
    arrived_s: float
    deadline_s: float | None
    done: "asyncio.Future[Sequence[Candidate]]"

    def settle(self, found: Sequence[Candidate] | Exception) -> None:
        """Wake the caller with its candidates or an error; only the first outcome counts."""
        if self.done.done():
            return
        if isinstance(found, Exception):
            self.done.set_exception(found)
        else:
            self.done.set_result(found)


class SearchQueue:
    """Who is searched for next. Belongs to the loop.

    The oldest leads, and who can share its call joins in the order of arrival. A deadline buys this much: every other
    call may be led by the query whose deadline is nearest, so that who has none waits at most twice as long for it.
    """

    def __init__(self) -> None:
        # Dictionaries for their order, and because who leaves may stand anywhere in them.
        self._waiting: dict[WaitingQuery, None] = {}
        self._alike: dict[Hashable, dict[WaitingQuery, None]] = {}
        self._with_deadline: dict[WaitingQuery, float] = {}
        self._last_jumped = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: WaitingQuery) -> None:
        """Queue a query."""
        self._waiting[waiting] = None
        self._alike.setdefault(waiting.key, {})[waiting] = None
        if waiting.deadline_s is not None:
            self._with_deadline[waiting] = waiting.deadline_s

    def remove(self, waiting: WaitingQuery) -> bool:
        """Take a query out of the queue; False if it has left already."""
        if waiting not in self._waiting:
            return False
        del self._waiting[waiting]
        self._with_deadline.pop(waiting, None)
        alike = self._alike[waiting.key]
        del alike[waiting]
        if not alike:
            del self._alike[waiting.key]
        return True

    def expire(self, now_s: float) -> None:
        """Tell those whose deadline has passed: their timers may come later in this turn of the loop than a call."""
        for waiting in [waiting for waiting, deadline_s in self._with_deadline.items() if deadline_s <= now_s]:
            self.remove(waiting)
            waiting.settle(expired())

    def take(self, at_most: int) -> list[WaitingQuery]:
        """Take the query whose turn it is and others that can share its call. The queue must not be empty."""
        oldest = next(iter(self._waiting))
        lead = oldest
        if self._with_deadline and not self._last_jumped:
            lead = min(self._with_deadline, key=self._with_deadline.__getitem__)
        self._last_jumped = lead is not oldest
        batch = [lead]
        for waiting in self._alike[lead.key]:
            if len(batch) == at_most:
                break
            if waiting is not lead:
                batch.append(waiting)
        for waiting in batch:
            self.remove(waiting)
        return batch


def expired() -> ExpiredError:
    """Return the error of a query whose deadline passes here."""
    return ExpiredError("the deadline passed while the query waited for its search")
