"""The rerank stage alone on a SIMULATED device, many queries at once: one line of JSON, for ``benchmarks.host_path``.

Short: the stage's measure is the GPU's own. Called in a process of its own, so that nothing else is in the figure.
"""

import asyncio
import json
import sys
from functools import partial

from benchmarks.gpu.speed import Effort, stage_around
from benchmarks.simulated_device import RERANK, known_queries, settle_heap, simulated_scorer

CLIENTS = 200
REPEATS = 3


def main() -> None:
    pairs_per_s, seconds = map(float, sys.argv[1:])
    new_scorer = partial(simulated_scorer, pairs_per_s)
    effort, queries = Effort(seconds, REPEATS), known_queries()
    settle_heap()
    print(json.dumps(asyncio.run(stage_around(new_scorer, RERANK, queries, effort, CLIENTS))))


if __name__ == "__main__":
    main()
