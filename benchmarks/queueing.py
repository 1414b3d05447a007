"""What waiting in turn costs by itself: arrivals, and the times they would take at an ideal server of equal capacity.

The ideal is one server that never rests while a query waits, takes them first come, first served, and is held by each
for the same time, 1 / capacity. A query is done as soon after its turn as one query alone is: ``alone_s``, what recall
and scorer take for it with nothing around them, measured in the same run. What of that is longer than 1 / capacity goes
on beside the next queries. Nothing of Kafka, the worker's loop and its batches is in the ideal but what they do to the
capacity; whatever else they cost shows in the ratio.

It serves the very arrivals of the measurement from an empty start (Lindley's recursion), so nothing is assumed of how
they are distributed, how many they are, or how long ago they began; for Poisson arrivals without end it is the M/D/1
queue. Queries differ in length and their times with it, from which waiting grows (Pollaczek and Khinchine): equal
times are the least. A device that only several queries fill serves them by the batch; for such a one the ideal is too
low.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any

from benchmarks.common import percentile, significant, summary, tail

P99_LOAD, P99_TARGET = 0.7, 1.3
MODEL = (
    "one server that takes the same arrivals in turn, 1 / capacity for each, "
    "a query done as soon after its turn as one query alone, bare"
)


@dataclass(frozen=True, slots=True)
class Round:
    """Arrivals at one load, what each took, and what the worker could do meanwhile."""

    due_s: Sequence[float]
    """From the round's start, in order."""
    latency_s: Sequence[float]
    """Of each, from when it was due, in any order."""
    late_s: Sequence[float]
    """How long after it was due each left: the load's own fault."""
    asked_per_s: float
    capacity_per_s: float
    """Queries at a backlog, measured right before and after the arrivals: the mean."""


def arrivals(per_second: float, duration_s: float, seed: int) -> list[float]:
    """Return the times of a Poisson process, in seconds from its start: drawn in advance, whatever the system does."""
    draw = random.Random(seed)
    times: list[float] = []
    now_s = draw.expovariate(per_second)
    while now_s < duration_s:
        times.append(now_s)
        now_s += draw.expovariate(per_second)
    return times


def ideal_latencies(due_s: Sequence[float], service_s: float, alone_s: float = 0.0) -> list[float]:
    """Return how many seconds each would take that comes when it is due, in that order.

    Each holds the server for ``service_s`` from its turn on, and is done after that or after ``alone_s``, whichever is
    later.
    """
    free_s, latencies = 0.0, []
    for at_s in due_s:
        turn_s = max(free_s, at_s)
        free_s = turn_s + service_s
        latencies.append(turn_s - at_s + max(service_s, alone_s))
    return latencies


def against_ideal(rounds: Sequence[Round], alone_s: float) -> dict[str, Any]:
    """Return the tails of all rounds' latencies in ms, the ideal's of the same arrivals, and how many times as long.

    ``p99_times_ideal`` is that of each round by itself: few queries have a p99 that one late one decides.
    """
    latency_ms = [[1000 * each for each in one.latency_s] for one in rounds]
    ideal_ms = [[1000 * each for each in ideal_latencies(one.due_s, 1 / one.capacity_per_s, alone_s)] for one in rounds]
    ours, ideal = list(chain(*latency_ms)), list(chain(*ideal_ms))
    return {
        "queries": len(ours),
        "queries_per_second": significant(median(one.asked_per_s for one in rounds)),
        "share_of_capacity": summary([one.asked_per_s / one.capacity_per_s for one in rounds]),
        "latency_ms": tail(ours),
        "ideal_ms": tail(ideal),
        "times_ideal": ratios(ours, ideal),
        "p99_times_ideal": summary(
            [percentile(took, 0.99) / percentile(least, 0.99) for took, least in zip(latency_ms, ideal_ms, strict=True)]
        ),
        "sent_late_ms_p99": significant(1000 * percentile([late_s for one in rounds for late_s in one.late_s], 0.99)),
    }


def ratios(ours: Sequence[float], ideal: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of ours, each over the ideal's: not the percentiles of each query's ratio."""
    least = tail(ideal)
    return {name: round(value / least[name], 3) for name, value in tail(ours).items()}
