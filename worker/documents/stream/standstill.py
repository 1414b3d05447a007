"""Whether this process has just stood still: then its partitions may be others' by now, and it does not know yet.

A process that is stopped, or whose machine sleeps or starves, misses its heartbeats; the group gives its partitions to
others after the session's time. When it goes on, it goes on where it was: a write that it was about to send would undo
what others have written since. Its consumer learns of the loss at its next heartbeat, its threads don't wait for that.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from worker.errors import TransientError

BEAT_SHARE = 1 / 12
"""Of the session's time, between two beats: a gap is measured too long by as much."""
GAP_SHARE = 1 / 2
"""Of the session's time: the last heartbeat was sent up to a third of it before, so that two thirds may be too late."""
WARY_S = 5.0
"""For the heartbeat that is overdue to be sent and answered, and for what it says to have ended what is in work."""

logger = structlog.get_logger()


class StoodStillError(TransientError):
    """Nothing is asked of the store for some seconds: whose the documents are is found out meanwhile."""


class Standstill:
    """Built on the loop. ``watching`` has it beat there; any thread may ask."""

    def __init__(self, *, session_timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._beat_s = session_timeout_s * BEAT_SHARE
        self._longest_gap_s = session_timeout_s * GAP_SHARE
        self._clock = clock
        self._wary_until_s = clock()
        self._last_beat_s = clock()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Beat as long as the body lasts."""
        beating = asyncio.create_task(self._keep_beating(), name="standstill")
        try:
            yield
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    def beat(self) -> None:
        """Note that the process runs, and whether it has stood still since the last time."""
        now_s = self._clock()
        gap_s = now_s - self._last_beat_s
        if gap_s > self._longest_gap_s:
            # Before the beat: a thread that asks in between must not find neither.
            self._wary_until_s = now_s + WARY_S
            logger.warning("stood still", seconds=round(gap_s, 1), nothing_written_for_s=WARY_S)
        self._last_beat_s = now_s

    def check(self) -> None:
        """Raise StoodStillError if the process has just stood still, whether that was noted already or not."""
        now_s = self._clock()
        if now_s - self._last_beat_s > self._longest_gap_s or now_s < self._wary_until_s:
            raise StoodStillError("this process stood still; its partitions may be others' by now")

    async def _keep_beating(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._beat_s)
