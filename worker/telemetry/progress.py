"""How far one partition has come: what ``/progress`` shows."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One assigned partition, as of the last turn of the loop."""

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
        """Return what ``/progress`` shows: with the watermark's age as of now, even if the loop no longer turns."""
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
