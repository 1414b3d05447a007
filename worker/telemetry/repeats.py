"""Keeps what a library says over and over from flooding the log."""

import logging
import re
import threading
import time
from collections.abc import Callable

# What differs between two tellings of the same: librdkafka's times and counts, and which of its clients tells.
_VARYING = re.compile(r"\d+ms\b|\d+(?= identical error)|#(?:producer|consumer)-\d+")
# Beyond so many different ones the oldest is forgotten, and told once more.
MOST_KINDS = 256


class Repeats(logging.Filter):
    """Lets a message through once in an interval; the next of its kind that passes says how many were kept back.

    Of a kind are messages that differ in times, counts and the client's number alone. Any thread may log.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}
        """When one of a kind passed last, on the clock, and how many did not since; oldest first."""

    def kept_back(self, message: str) -> int | None:
        """Return how many of its kind were kept back since the last that passed; None: keep this one back, too."""
        kind = _VARYING.sub("…", message)
        now_s = self._clock()
        with self._lock:
            passed_s, kept_back = self._kinds.get(kind, (-self._interval_s, 0))
            if now_s - passed_s < self._interval_s:
                self._kinds[kind] = (passed_s, kept_back + 1)
                return None
            self._kinds.pop(kind, None)
            self._kinds[kind] = (now_s, 0)
            if len(self._kinds) > MOST_KINDS:
                del self._kinds[next(iter(self._kinds))]
        return kept_back

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written; its message may be changed to hold the count."""
        message = record.getMessage()
        kept_back = self.kept_back(f"{record.levelno} {message}")
        if kept_back:
            record.msg, record.args = f"{message} (and {kept_back} like it since)", ()
        return kept_back is not None
