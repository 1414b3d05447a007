"""What everything around the scorer costs: Kafka → a real worker → Kafka against the bare scorer on the same pairs.

``python -m benchmarks.end_to_end`` writes ``results/end_to_end.json``; some 6 minutes. First a backlog, worked off by
the worker and scored bare in turns. Then Poisson arrivals at shares of the capacity just measured, their times drawn
in advance: latency counts from when a query was due, however late it was sent. Beside it stands what a server would
take that needs for each query just what the capacity says: queueing alone. Then one query at a time.

``--threads 1`` leaves a core to Kafka, Chroma and the load, as a machine has that is not shared:
``results/end_to_end-spare.json``.
"""

import argparse
import os
import time
from contextlib import closing
from itertools import pairwise
from typing import Any

from benchmarks.bare import COLLECTION, TOP_K, Bare, bare, event
from benchmarks.common import arrivals, ideal_latencies, percentile, print_table, save, significant, summary, tail
from benchmarks.machine import facts
from benchmarks.stack import Asker, Observer, Servers, cores_used, cpu_seconds, ending, labelled_metric, servers
from tests.worker_process import WorkerProcess, start_worker_process
from worker.models.packages import CROSS_ENCODER_NAME
from worker.settings import KafkaSettings, RecallSettings
from worker.telemetry.metrics import BATCHERS

PARTITIONS = 12
TARGET = 0.95
LOADS = (0.3, 0.5, 0.7, 0.9)
IDLE_GAP_S = 0.2
WARM_UP_QUERIES = 40
SCORING = "rerank_worker_batch_duration_seconds_sum"
WAITED = "rerank_worker_batch_wait_seconds"
# Few enough that the pairs of a query are one batch: the second of two would wait for the first.
LINGER_CANDIDATES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-s", type=float, default=10.0, help="about how long the bare scorer takes per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load-s", type=float, default=30.0, help="how long queries arrive at each load")
    parser.add_argument("--idle", type=int, default=30, help="queries asked one at a time")
    parser.add_argument("--threads", type=int, default=0, help="torch's, in the worker and bare; 0: all cores")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "what": "Kafka → worker → Kafka against the bare scorer on the same pairs; no answers generated",
        "machine": facts(),
        "model": CROSS_ENCODER_NAME,
        "candidates": TOP_K,
        "scorer_threads": options.threads or len(os.sched_getaffinity(0)),
    }
    with servers(chroma=True) as stack, ending([]) as workers:
        assert stack.chroma is not None
        recall = RecallSettings(host=stack.chroma.host, port=stack.chroma.port, collection=COLLECTION)
        alone = bare(recall, options.threads)
        kafka = stack.new_topics(PARTITIONS)
        workers.append(start(stack, kafka, recall, options.threads))
        workers[0].await_ready()
        with closing(Observer(kafka)) as observer:
            lab = Lab(alone, workers[0], Asker(kafka), observer)
            lab.backlog(WARM_UP_QUERIES)
            result["backlog"] = lab.throughput(options.rounds, options.round_s)
            capacity = result["backlog"]["worker_queries_per_second"]["median"]
            result["idle"] = lab.idle(options.idle) | {"waited_for_batches_ms": lab.lingering(options.idle)}
            service_ms = result["idle"]["alone_ms"]["median"]
            result["open_loop"] = [lab.at_load(load, capacity, service_ms, options) for load in LOADS]
        workers[0].stop()
    all_cores = options.threads in {0, len(os.sched_getaffinity(0))}
    save("end_to_end" if all_cores else "end_to_end-spare", result)
    report(result)


def start(stack: Servers, kafka: KafkaSettings, recall: RecallSettings, threads: int) -> WorkerProcess:
    return start_worker_process(
        kafka, recall, stack.folder / "worker.log", RERANK__MODEL=CROSS_ENCODER_NAME, RERANK__THREADS=str(threads)
    )


class Lab:
    """One worker with its observer, and the bare parts beside it; never both at work at once."""

    def __init__(self, alone: Bare, worker: WorkerProcess, asker: Asker, observer: Observer) -> None:
        self._bare = alone
        self._worker = worker
        self._asker = asker
        self._observer = observer

    def backlog(self, queries: int) -> dict[str, Any]:
        """Produce a backlog, wait until it is worked off, and return what was measured."""
        first = self._observer.count
        scoring_s, cpu = self._scoring_s(), cpu_seconds([self._worker])
        begun_s = time.time()
        for number in range(queries):
            # What was asked before has left its vector and its passages' tokens in the worker.
            self._asker.ask(event(first + number))
        self._asker.flush()
        self._observer.await_count(first + queries)
        answers = self._observer.answers[first:]
        assert all(answer.status == "ok" for answer in answers), {answer.status for answer in answers}
        written = [answer.written_s for answer in answers]
        elapsed_s = max(written) - begun_s
        return {
            "queries_per_second": queries / elapsed_s,
            "from_first_answer": (queries - 1) / (max(written) - min(written)),
            "scorer_share": (self._scoring_s() - scoring_s) / elapsed_s,
            "cores": cores_used(cpu, cpu_seconds([self._worker]), elapsed_s),
        }

    def throughput(self, rounds: int, round_s: float) -> dict[str, Any]:
        """Work off a backlog and score the same pairs bare, in turns."""
        trial = self._bare.pairs(10)
        self._bare.score_all(trial)
        queries = max(20, round(round_s / (self._bare.score_all(trial) / 10)))
        pairs = self._bare.pairs(queries)
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(queries / self._bare.score_all(pairs))
            ours.append(self.backlog(queries))
        rates = [each["queries_per_second"] for each in ours]
        # A machine that is shared gets slower and faster: each round of ours lies between two of theirs.
        theirs.append(queries / self._bare.score_all(pairs))
        around = [(before + after) / 2 for before, after in pairwise(theirs)]
        return {
            "queries": queries,
            "pairs": len(pairs),
            "rounds": rounds,
            "worker_queries_per_second": summary(rates),
            "bare_queries_per_second": summary(theirs),
            "ratio": summary([rate / bare_rate for rate, bare_rate in zip(rates, around, strict=True)]),
            "ratio_from_first_answer": summary(
                [each["from_first_answer"] / bare_rate for each, bare_rate in zip(ours, around, strict=True)]
            ),
            "target": TARGET,
            "share_of_time_in_scorer": summary([each["scorer_share"] for each in ours]),
            "cores_used": {role: summary([each["cores"][role] for each in ours]) for role in ours[0]["cores"]},
        }

    def idle(self, queries: int) -> dict[str, Any]:
        """Ask one query at a time through Kafka and bare, in turns."""
        total, added, bare_ms = [], [], []
        for _ in range(queries):
            first = self._observer.count
            recall_s, score_s = self._bare.alone(first)
            time.sleep(IDLE_GAP_S)
            asked_s = time.time()
            self._asker.ask(event(first))
            self._observer.await_count(first + 1)
            answer = self._observer.answers[first]
            total.append((answer.seen_s - asked_s) * 1000)
            bare_ms.append((recall_s + score_s) * 1000)
            added.append(total[-1] - bare_ms[-1])
            time.sleep(IDLE_GAP_S)
        return {
            "queries": queries,
            "alone_ms": summary(bare_ms),
            "worker_ms": summary(total),
            "worker_p95_ms": significant(percentile(total, 0.95)),
            "added_ms": summary(added),
        }

    def lingering(self, queries: int) -> dict[str, float]:
        """Ask one small query at a time; return how long its first item waited for a batch to leave, the mean."""
        before = self._waited()
        for _ in range(queries):
            first = self._observer.count
            self._asker.ask(event(first, LINGER_CANDIDATES))
            self._observer.await_count(first + 1)
            time.sleep(IDLE_GAP_S)
        return {
            batcher: significant(1000 * (waited_s - before[batcher][0]) / (batches - before[batcher][1]))
            for batcher, (waited_s, batches) in self._waited().items()
        }

    def _waited(self) -> dict[str, tuple[float, float]]:
        def read(batcher: str, part: str) -> float:
            return labelled_metric(self._worker, f"{WAITED}_{part}", batcher=batcher)

        return {batcher: (read(batcher, "sum"), read(batcher, "count")) for batcher in BATCHERS}

    def at_load(self, load: float, capacity: float, service_ms: float, options: argparse.Namespace) -> dict[str, Any]:
        """Let queries arrive at a share of the capacity, on a schedule that waits for nothing."""
        schedule = arrivals(load * capacity, options.load_s, options.seed)
        first, due_s, late_ms = self._observer.count, {}, []
        start_s = time.time() + 0.2
        for number, at_s in enumerate(schedule, first):
            due_s[f"q{number}"] = start_s + at_s
            time.sleep(max(0.0, start_s + at_s - time.time()))
            late_ms.append((time.time() - start_s - at_s) * 1000)
            self._asker.ask(event(number))
        self._observer.await_count(first + len(schedule))
        answers = self._observer.answers[first:]
        latency_ms = [(answer.seen_s - due_s[answer.query_id]) * 1000 for answer in answers]
        return {
            "load": load,
            "queries_per_second": significant(load * capacity),
            "queries": len(schedule),
            "latency_ms": tail(latency_ms),
            "times_service_time": tail([latency / service_ms for latency in latency_ms]),
            "ideal_ms": tail([latency_s * 1000 for latency_s in ideal_latencies(schedule, 1 / capacity)]),
            "sent_late_ms_p99": significant(percentile(late_ms, 0.99)),
        }

    def _scoring_s(self) -> float:
        return labelled_metric(self._worker, SCORING, batcher="rerank")


def report(result: dict[str, Any]) -> None:
    backlog, idle = result["backlog"], result["idle"]
    ratio = backlog["ratio"]
    print(f"worker / bare scorer: {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f}), target {TARGET}")
    print(f"share of the worker's time in the scorer: {backlog['share_of_time_in_scorer']['median']:.3f}")
    print("cores used:", {role: used["median"] for role, used in backlog["cores_used"].items()})
    print_table(
        ("load", "queries/s", "p50 ms", "p95 ms", "p99 ms", "p50 x", "p95 x", "p99 x", "ideal p99 ms"),
        [
            (
                row["load"],
                row["queries_per_second"],
                *row["latency_ms"].values(),
                *row["times_service_time"].values(),
                row["ideal_ms"]["p99"],
            )
            for row in result["open_loop"]
        ],
    )
    waited = ", ".join(f"{batcher} {ms:.1f} ms" for batcher, ms in idle["waited_for_batches_ms"].items())
    print(
        f"idle: {idle['worker_ms']['median']:.1f} ms, bare {idle['alone_ms']['median']:.1f} ms; batches held: {waited}"
    )


if __name__ == "__main__":
    main()
