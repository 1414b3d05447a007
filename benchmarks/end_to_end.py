"""What everything around the scorer costs: Kafka → a real worker → Kafka against the bare scorer on the same pairs.

``python -m benchmarks.end_to_end`` writes ``results/end_to_end.json``; some 20 minutes, ``--quick`` two (which writes
nothing).

**Throughput.** A backlog, worked off by the worker and scored bare in turns, the same pairs with the same threads. Bare
is the scorer in this process, on pairs found and encoded before. ``ratio`` is to it beside a broker and a Chroma that
idle. ``ratio_shared``, which has the target, is to it while the broker is as busy as the worker keeps it:
events are asked, fetched, answered, committed and observed at the worker's rate (``traffic.py``). What that ratio falls
short by is the worker's own: recall, tokenising, the loop, its clients. Chroma is not kept busy. What each process took
of the cores stands beside all three, and ``ratio_per_core`` is ``ratio`` by the processor time of the worker's process
and of this one: what others took of the machine meanwhile is in neither.

**Latency.** Poisson arrivals at shares of the capacity, their times drawn in advance: latency counts from when a query
was due, however late it was sent. Each round lies between two backlogs; their mean is the capacity of the ideal server
(``queueing.py``) that the same arrivals are held against. Before it, one query at a time.

``--threads 1`` leaves a core to Kafka, Chroma and the load, as a machine has that is not shared:
``results/end_to_end-spare.json``.
"""

import argparse
import os
from contextlib import closing
from typing import Any

from benchmarks.bare import COLLECTION, TOP_K, bare
from benchmarks.common import print_table, save
from benchmarks.lab import RATE, Lab
from benchmarks.machine import facts
from benchmarks.queueing import MODEL, P99_LOAD, P99_TARGET
from benchmarks.stack import Asker, Observer, Servers, ending, servers
from benchmarks.traffic import Traffic
from tests.worker_process import WorkerProcess, start_worker_process
from worker.documents.samples.corpus import documents
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.settings import KafkaSettings, RecallSettings

PARTITIONS = 12
LOADS = (0.3, 0.5, P99_LOAD, 0.9)
WARM_UP_QUERIES = 40
# What an answer with its contexts takes, before it is compressed.
ANSWER_BYTES = 4_000


def main() -> None:
    options = _options()
    result: dict[str, Any] = {
        "what": "Kafka → worker → Kafka against the bare scorer on the same pairs; no answers generated",
        "machine": facts(),
        "model": CROSS_ENCODER_NAME,
        "candidates": TOP_K,
        "scorer_threads": options.threads or len(os.sched_getaffinity(0)),
        "ideal": {"model": MODEL, "load": P99_LOAD, "target": P99_TARGET},
    }
    with servers(chroma=True) as stack, ending([]) as workers:
        assert stack.chroma is not None
        recall = RecallSettings(host=stack.chroma.host, port=stack.chroma.port, collection=COLLECTION)
        alone = bare(recall, options.threads)
        kafka = stack.new_topics(PARTITIONS)
        workers.append(start(stack, kafka, recall, options.threads))
        workers[0].await_ready()
        answer = "\n".join(document.text for document in documents()).encode()[:ANSWER_BYTES]
        with closing(Observer(kafka)) as observer, closing(Traffic(stack.new_topics(PARTITIONS), answer)) as traffic:
            lab = Lab(alone, workers[0], Asker(kafka), observer, traffic)
            rate = lab.backlog(options.warm_up)[RATE]
            result["backlog"] = lab.throughput(options.rounds, options.round_s, rate)
            result["idle"] = lab.idle(options.idle) | {"waited_for_batches_ms": lab.lingering(options.idle)}
            alone_s = result["idle"]["alone_ms"]["median"] / 1000
            result["open_loop"] = lab.under_load(
                options.loads, options.load_rounds, options.load_s, options.seed, alone_s, result["backlog"]["queries"]
            )
        workers[0].stop()
    if not options.quick:
        all_cores = options.threads in {0, len(os.sched_getaffinity(0))}
        save("end_to_end" if all_cores else "end_to_end-spare", result)
    report(result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-s", type=float, default=10.0, help="about how long the bare scorer takes per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load-s", type=float, default=60.0, help="how long queries arrive at each load, a round")
    parser.add_argument("--load-rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=30, help="queries asked one at a time")
    parser.add_argument("--threads", type=int, default=0, help="torch's, in the worker and bare; 0: all cores")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a rehearsal: one short round of each, one load, no file")
    options = parser.parse_args()
    options.loads, options.warm_up = LOADS, WARM_UP_QUERIES
    if options.quick:
        options.loads, options.warm_up, options.rounds, options.load_rounds, options.idle = [P99_LOAD], 5, 1, 1, 2
        options.round_s, options.load_s = 2.0, 15.0
    return options


def start(stack: Servers, kafka: KafkaSettings, recall: RecallSettings, threads: int) -> WorkerProcess:
    return start_worker_process(
        kafka, recall, stack.folder / "worker.log", RERANK__MODEL=CROSS_ENCODER_NAME, RERANK__THREADS=str(threads)
    )


def report(result: dict[str, Any]) -> None:
    backlog, idle, ideal = result["backlog"], result["idle"], result["ideal"]
    for name, what in (
        ("ratio", "beside an idle broker"),
        ("ratio_shared", f"beside as busy a broker, target {backlog['target']}"),
        ("ratio_per_core", "by processor time"),
    ):
        ratio = backlog[name]
        print(f"worker / bare scorer, {what}: {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})")
    print(f"share of the worker's time in the scorer: {backlog['share_of_time_in_scorer']['median']:.3f}")
    for subject in ("", "bare_", "bare_shared_"):
        cores = backlog[f"{subject}cores_used"]
        print(f"{subject}cores_used:", {role: used["median"] for role, used in cores.items()})
    print_table(
        ("load", "queries", "p50 ms", "p95 ms", "p99 ms", "ideal p99 ms", "p50 x", "p95 x", "p99 x", "least", "most"),
        [
            (
                row["share_of_capacity"]["median"],
                row["queries"],
                *row["latency_ms"].values(),
                row["ideal_ms"]["p99"],
                *row["times_ideal"].values(),
                row["p99_times_ideal"]["min"],
                row["p99_times_ideal"]["max"],
            )
            for row in result["open_loop"]
        ],
    )
    print(f"x: times the ideal, {ideal['model']}; target at {ideal['load']:.0%}: {ideal['target']}")
    waited = ", ".join(f"{batcher} {ms:.1f} ms" for batcher, ms in idle["waited_for_batches_ms"].items())
    print(
        f"idle: {idle['worker_ms']['median']:.1f} ms, bare {idle['alone_ms']['median']:.1f} ms; batches held: {waited}"
    )


if __name__ == "__main__":
    main()
