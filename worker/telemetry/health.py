"""Whether this process lives and whether it can work, each with the reason why not.

A poll heartbeat alone would lie: it beats on with every broker dead, and it says nothing about the loop.
"""

import faulthandler
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.telemetry.progress import PartitionProgress

# Several polls and any garbage collection fit in; a loop blocked for longer is stuck.
HEARTBEAT_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Health:
    """Set by the loop, read by the HTTP threads: single attribute reads and writes, so no lock."""

    starting: str | None = "starting"
    """What the start is waiting for; None once the worker consumes."""
    draining: bool = False
    joined: Callable[[], bool] | None = None
    """Whether the consumer group has taken this member in, with partitions or idle."""
    brokers_down: Callable[[], bool] | None = None
    poll_age_s: Callable[[], float] | None = None
    stopped: Callable[[], str | None] | None = None
    """Which partition has stopped and why, if one has."""
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
        if self.stopped is not None and (why := self.stopped()) is not None:
            return why
        return self.why_not_live()
