"""Whether this process lives and whether it can work, each with the reason why not; how far its partitions have come.

A poll heartbeat alone would lie: it beats on with every broker dead, and it says nothing about the loop.
"""

import faulthandler
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# Several polls and any garbage collection fit in; a loop blocked for longer is stuck.
HEARTBEAT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One assigned partition, as of the last tick of the loop."""

    topic: str
    partition: int
    in_flight: int
    """Queries in work, or made and not yet published."""
    uncommitted: int
    """Queries taken in and not yet part of the completed prefix."""
    committed_offset: int | None
    """Where the next owner would begin; None until this assignment has committed."""
    oldest_since_s: float | None
    """When the oldest unfinished query was taken in, on the monotonic clock; None if there is none."""
    paused: str | None
    """Why nothing is fetched now, or None."""

    def as_json(self) -> dict[str, object]:
        """Return what ``/progress`` shows: the oldest query's age as of now, even if the loop no longer turns."""
        age_s = 0.0 if self.oldest_since_s is None else time.monotonic() - self.oldest_since_s
        return {
            "topic": self.topic,
            "partition": self.partition,
            "watermark_age_s": round(age_s, 3),
            "in_flight": self.in_flight,
            "uncommitted": self.uncommitted,
            "committed_offset": self.committed_offset,
            "paused": self.paused,
        }


class WatchedThread(Protocol):
    """A thread that runs one call at a time."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def busy_since_s(self) -> float | None:
        """When the call that runs now began, on the monotonic clock; None between calls."""
        ...


@dataclass(slots=True)
class Health:
    """Set by the loop, read by the HTTP threads: single attribute reads and writes, so no lock."""

    starting: str | None = "starting"
    """What the start is waiting for; None once the worker consumes."""
    draining: bool = False
    hang_timeout_s: float = math.inf
    """A call of one of ``threads`` that runs for longer hangs."""
    threads: Sequence[WatchedThread] = ()
    joined: Callable[[], bool] | None = None
    """Whether the consumer group has taken this member in, with partitions or idle."""
    brokers_down: Callable[[], bool] | None = None
    poll_age_s: Callable[[], float] | None = None
    stopped: Callable[[], str | None] | None = None
    """Which partition has stopped and why, if one has."""
    recall: Callable[[], str | None] | None = None
    """Why no document can be found for queries that name no collection, if so."""
    progress: Callable[[], Sequence[PartitionProgress]] = tuple
    """How far each assigned partition has come."""
    _loop_beat_s: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """Say that the loop turns; call it at least every few seconds."""
        self._loop_beat_s = time.monotonic()
        # The interpreter's own watchdog: it needs neither the loop nor the GIL, which may be what hangs. Armed anew
        # only while the worker lives, so one that is stuck tells where, on stderr, and tells it once.
        if self.why_not_live() is None:
            faulthandler.dump_traceback_later(HEARTBEAT_TIMEOUT_S)

    def end(self) -> None:
        """Stop watching: nothing beats from now on."""
        faulthandler.cancel_dump_traceback_later()

    def why_not_live(self) -> str | None:
        """Return why the process should be restarted, or None. Starting is no reason: models take their time."""
        if self.starting is not None:
            return None
        loop_age_s = time.monotonic() - self._loop_beat_s
        if loop_age_s > HEARTBEAT_TIMEOUT_S:
            return f"the loop has not turned for {loop_age_s:.0f} s"
        if self.poll_age_s is not None and self.poll_age_s() > HEARTBEAT_TIMEOUT_S:
            return f"Kafka has not been polled for {self.poll_age_s():.0f} s"
        return self.why_hanging()

    def why_hanging(self) -> str | None:
        """Return which thread's call does not end, or None: only a new process has one that works."""
        now_s = time.monotonic()
        for thread in self.threads:
            since_s = thread.busy_since_s
            if since_s is not None and now_s - since_s > self.hang_timeout_s:
                return f"the thread {thread.name!r} hangs: its call has run for {now_s - since_s:.0f} s"
        return None

    def why_not_ready(self) -> str | None:
        """Return why the worker can't take queries now, or None."""
        if self.starting is not None:
            return self.starting
        if self.draining:
            return "draining"
        if self.brokers_down is not None and self.brokers_down():
            return "no Kafka broker can be reached"
        if self.joined is not None and not self.joined():
            return "waiting for the consumer group"
        for ask in (self.stopped, self.recall):
            if ask is not None and (why := ask()) is not None:
                return why
        return self.why_not_live()
