"""Room for one call to the store: a thread, and a search with a connection of its own.

Threads and not Chroma's asynchronous client: that one takes 1.2 to 1.4 times the processor time for the same call, on
the loop; an embedded store has none; and a thread that is left behind ends a call in time whatever it waits for.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from worker.batching.executor import SingleThreadExecutor
from worker.domain import Query
from worker.errors import TransientError
from worker.recall.chroma_connection import LEAVE_SLACK_S, no_answer
from worker.recall.chroma_search import Found
from worker.recall.embedder import Vectors
from worker.recall.search_queue import WaitingQuery
from worker.settings import RecallSettings


class Search(Protocol):
    """What a slot calls, on its thread: see ``ChromaSearch``."""

    def find(
        self, queries: Sequence[Query], vectors: Vectors, *, within_s: float, after_loss: bool = False
    ) -> Sequence[Found]:
        """Return each query's candidates, or the error that is its own."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


NewSearch = Callable[[], Search]


class Slot:
    """Room for one call: a thread and the search it makes, replaced together when a call does not end in its time."""

    def __init__(self, new_search: NewSearch, settings: RecallSettings, name: str) -> None:
        self._new_search = new_search
        self._settings = settings
        self._name = name
        self._search = new_search()
        self._thread = SingleThreadExecutor(name)

    @property
    def name(self) -> str:
        """The thread's name."""
        return self._name

    @property
    def busy_since_s(self) -> float | None:
        """When the call that runs now began, on the monotonic clock; None between calls. Any thread may read it."""
        return self._thread.busy_since_s

    async def find(self, batch: Sequence[WaitingQuery], *, within_s: float, after_loss: bool) -> Sequence[Found]:
        """Return what was found for each, in bounded time but for an embedded store, which can't be left behind."""
        search = self._search  # The one whose connection is this thread's, should both be replaced before it begins.

        def find() -> Sequence[Found]:
            queries, vectors = [waiting.query for waiting in batch], np.stack([waiting.vector for waiting in batch])
            return search.find(queries, vectors, within_s=within_s, after_loss=after_loss)

        call = asyncio.wrap_future(self._thread.submit(find))
        can_be_left = self._settings.mode == "server"
        ended, _ = await asyncio.wait([call], timeout=within_s + LEAVE_SLACK_S if can_be_left else None)
        if not ended:
            self._leave_behind()
            return [no_answer(self._settings)] * len(batch)
        try:
            return call.result()
        except Exception as error:  # noqa: BLE001 - native code that panicked: no query's own error
            return [TransientError(f"Recall failed: {type(error).__name__}: {error}")] * len(batch)

    async def close(self, timeout_s: float) -> None:
        """Let the call under way end and the connection go, in bounded time; one that hangs is left behind."""
        await self._thread.aclose(timeout_s)
        self._search.close()

    def _leave_behind(self) -> None:
        # The thread ends with its call, and the connection is its alone until then.
        self._thread.submit(self._search.close)
        self._thread.close()
        self._search, self._thread = self._new_search(), SingleThreadExecutor(self._name)
