"""What OpenTelemetry traces cost a query: none made, one query in a hundred recorded, all of them.

``python -m benchmarks.traces`` writes ``results/traces.json``; some 3 minutes, ``--quick`` one (which writes nothing).
The worker and its backlog are those of ``host_path.py``: real Kafka, SIMULATED recall and device. Spans go by OTLP to
a collector in this process, which counts them. The ways take turns.
"""

import argparse
from collections import defaultdict
from typing import Any

from benchmarks.common import print_table, save, summary
from benchmarks.host_path import CANDIDATES, PAIRS_PER_S, Effort, whole_worker
from benchmarks.machine import facts
from benchmarks.stack import ROOT, servers
from tests.fakes.collector import fake_collector

RATIOS = {"off": None, "1 query in 100": 0.01, "every query": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    effort = Effort(4_000, 1, 0.0) if options.quick else Effort(20_000, 3, 0.0)
    begun = facts()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    with servers(chroma=False) as stack, fake_collector() as collector:
        for _ in range(effort.rounds):
            for way, ratio in RATIOS.items():
                endpoint = f"http://127.0.0.1:{collector.port}"
                traced = {} if ratio is None else {"otlp_endpoint": endpoint, "trace_ratio": ratio}
                before = len(collector.spans)
                row = whole_worker(stack, ROOT, PAIRS_PER_S, effort, **traced)
                row["spans_received"] = len(collector.spans) - before
                found[way].append(row)
                print(f"  {way}: {row}", flush=True)
    result: dict[str, Any] = {
        "what": "SIMULATION of recall and device: what traces cost a worker's process, on real Kafka",
        "machine": begun,
        "candidates": CANDIDATES,
        "queries": effort.queries,
        "ways": {way: {name: summary([row[name] for row in rows]) for name in rows[0]} for way, rows in found.items()},
    }
    for way, rows in found.items():
        over = [
            row["worker_us_per_query"] - off["worker_us_per_query"] for row, off in zip(rows, found["off"], strict=True)
        ]
        result["ways"][way]["us_over_off"] = summary(over)
    if not options.quick:
        save("traces", result)
    names = ("worker_us_per_query", "us_over_off", "queries_per_s", "spans_received")
    print_table(
        ("median", *names), [(way, *(row[name]["median"] for name in names)) for way, row in result["ways"].items()]
    )


if __name__ == "__main__":
    main()
