"""Rounds in which every contender scores the same pairs, beside the machine's own matrix product."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import gemm
from benchmarks.peers.base import Contender, Scores
from benchmarks.workload import Asked, Mix
from worker.batching.executor import SingleThreadExecutor

# The spinning threads of one library must not take the cores from the next one.
SETTLE_S = 0.1


@dataclass(slots=True)
class Timings:
    """One contender's figures on one mix, one a round."""

    seconds: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    padded_share: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Measured:
    """What all rounds gave."""

    timings: dict[tuple[str, str], Timings] = field(default_factory=dict)
    """By mix and contender."""
    scores: dict[tuple[str, str], Scores] = field(default_factory=dict)
    """Of all queries of all rounds."""
    gemm: list[dict[str, dict[str, float]]] = field(default_factory=list)


def measure(
    contenders: Sequence[Contender],
    rounds: Sequence[Sequence[Mix]],
    config: Any,
    device: str,
    executor: SingleThreadExecutor,
) -> Measured:
    """Run every contender once a round on the round's mixes, the order rotating, after a query of each to warm up.

    ``executor`` is the thread on which those of this process compute: the machine's own products run there too.
    """
    measured = Measured()
    for mix in rounds[0]:
        for contender in contenders:
            contender.score(mix.queries[:1])
            contender.padding()
            measured.timings[mix.name, contender.name] = Timings()
    for number, mixes in enumerate(rounds):
        measured.gemm.append(executor.submit(lambda: gemm.rates(config, device)).result())
        turn = number % len(contenders)
        for mix in mixes:
            for contender in [*contenders[turn:], *contenders[:turn]]:
                time.sleep(SETTLE_S)
                key = mix.name, contender.name
                scores = _time(contender, mix.queries, device, measured.timings[key])
                measured.scores.setdefault(key, []).extend(scores)
        print(f"round {number + 1} of {len(rounds)} done", flush=True)
    return measured


def _time(contender: Contender, queries: Sequence[Asked], device: str, timings: Timings) -> Scores:
    # The query that is asked alone is none of the others: what remembers texts must not know it.
    *together, alone = queries
    seconds, scores = _seconds(contender, together, device)
    timings.seconds.append(seconds)
    padding = contender.padding()
    if padding is not None:
        timings.padded_share.append(1 - padding.tokens / padding.padded)
    seconds, last = _seconds(contender, [alone], device)
    timings.alone_s.append(seconds)
    contender.padding()
    return [*scores, *last]


def _seconds(contender: Contender, queries: Sequence[Asked], device: str) -> tuple[float, Scores]:
    gemm.synchronise(device)
    begun_s = time.perf_counter()
    scores = contender.score(queries)
    gemm.synchronise(device)
    return time.perf_counter() - begun_s, scores
