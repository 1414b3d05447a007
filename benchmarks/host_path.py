"""What the processor does for a query and for a pair, and how busy that keeps a device of 30,000 pairs/s.

``python -m benchmarks.host_path [--against CHECKOUT]`` writes ``results/host-path.json``; some 3 minutes, half without
``--against``, a minute with ``--quick`` (which writes nothing). A real worker process on real Kafka works off a backlog
that was there before it, so that nobody but the broker is at work beside it; recall and device are SIMULATED
(``simulated_device.py``): a list in memory, and waiting. The rerank stage alone is measured in a process of its own.
With ``--against`` the worker of another checkout is measured in turns with this one's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.common import print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.stack import (
    ROOT,
    Asker,
    Servers,
    client_config,
    cores_used,
    cpu_seconds,
    ending,
    environment,
    servers,
    start_simulated_worker,
)
from schemas.events import QueryEvent
from tests.worker_process import WorkerProcess
from worker.local.process import await_condition
from worker.settings import KafkaSettings

PARTITIONS = 12
IN_FLIGHT = {"max_in_flight": 1_024, "max_in_flight_pairs": 32_768}
"""As an operator sets them for such a device: at the defaults partitions pause and resume several times a second, and
what comes after a pause takes longer to come than the device needs for what is left."""
CANDIDATES = 20
PAIRS_PER_S = 30_000
WARM_UP = 2_000
"""Queries that are not counted: all documents are known by then."""
REQUEST_TIMEOUT_S = 30.0
TIMEOUT_S = 300.0
TARGETS = {"worker_us_per_query": 350, "stage_us_per_pair": 5, "device_busy": 0.9}
QUESTION = "How is a topic's retention set for a cluster whose disks are nearly full?"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    queries: int
    rounds: int
    stage_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measured in turns with this one")
    parser.add_argument("--pairs-per-s", type=float, default=PAIRS_PER_S, help="what the simulated device scores")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    effort = Effort(4_000, 1, 1.0) if options.quick else Effort(20_000, 3, 3.0)
    begun = facts()
    found: dict[str, list[dict[str, Any]]] = {}
    with servers(chroma=False) as stack, checkouts(options.against) as subjects:
        for _ in range(effort.rounds):
            for name, checkout in subjects.items():
                row = stage_alone(checkout, options.pairs_per_s, effort)
                row |= whole_worker(stack, checkout, options.pairs_per_s, effort)
                found.setdefault(name, []).append(row)
                print(f"  {name}: {row}", flush=True)
    result = {
        "what": "SIMULATION of recall and device: what a worker's process takes of a processor, on real Kafka",
        "machine": begun,
        "device_pairs_per_s": options.pairs_per_s,
        "candidates": CANDIDATES,
        "queries": effort.queries,
        "settings": IN_FLIGHT,
        "targets": TARGETS,
        "subjects": {name: summarised(rows) for name, rows in found.items()},
    }
    if not options.quick:
        save("host-path", result)
    print("SIMULATION of recall and device; Kafka, delivery, tokenizer, batches and publishing are real")
    names = list(result["subjects"])
    figures = list(result["subjects"][names[0]])
    print_table(
        ("median", *names), [(each, *(result["subjects"][n][each]["median"] for n in names)) for each in figures]
    )


@contextmanager
def checkouts(against: Path | None) -> Iterator[Mapping[str, Path]]:
    """Yield what is measured: of the other checkout the worker alone, without its benchmarks."""
    with tempfile.TemporaryDirectory(prefix="rerank-against-") as folder:
        subjects = {"this": ROOT}
        if against is not None:
            for package in ("worker", "schemas"):
                (Path(folder) / package).symlink_to(against.resolve() / package)
            subjects = {"against": Path(folder), "this": ROOT}
        yield subjects


def summarised(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return each figure's median and spread over the rounds."""
    return {name: summary([row[name] for row in rows]) for name in rows[0]}


def stage_alone(checkout: Path, pairs_per_s: float, effort: Effort) -> dict[str, float]:
    """Return what the rerank stage takes of a processor a pair, by itself in a process."""
    command = [sys.executable, "-m", "benchmarks.host_stage", str(pairs_per_s), str(effort.stage_s)]
    done = subprocess.run(
        command, env=environment(checkout), capture_output=True, check=False, text=True, timeout=TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2_000:])
    measured = json.loads(done.stdout.splitlines()[-1])
    return {
        "stage_us_per_pair": significant(measured["process_cpu_us_per_pair"]),
        "stage_pairs_per_s": significant(measured["pairs_per_s"]),
    }


def whole_worker(
    stack: Servers, checkout: Path, pairs_per_s: float, effort: Effort, **options: object
) -> dict[str, float]:
    """Return what a worker's process takes of a processor a query while it works off a backlog, and what others do.

    ``options``: further ones of ``benchmarks.simulated_worker``.
    """
    kafka = stack.new_topics(PARTITIONS, **IN_FLIGHT)
    asker = Asker(kafka)
    # What comes while the figures are read must not be the end of the backlog.
    for number in range(WARM_UP + effort.queries + effort.queries // 2):
        asker.ask(QueryEvent(id=f"q{number}", text=f"{QUESTION} ({number})", top_k=CANDIDATES, generate=False))
    asker.flush()
    log_path = stack.folder / f"host-{kafka.group_id}.log"
    with closing(Answers(kafka)) as answers, ending([]) as workers:
        worker = start_simulated_worker(kafka, log_path, checkout=checkout, pairs_per_s=pairs_per_s, **options)
        workers.append(worker)
        answers.await_count(WARM_UP, worker)
        begun, begun_s, before = answers.count(), time.monotonic(), cpu_seconds(workers)
        answers.await_count(begun + effort.queries, worker)
        ended, ended_s, after = answers.count(), time.monotonic(), cpu_seconds(workers)
    queries, seconds = ended - begun, ended_s - begun_s
    cores = cores_used(before, after, seconds)
    return {
        "worker_us_per_query": significant(1e6 * (after["worker"] - before["worker"]) / queries),
        "queries_per_s": significant(queries / seconds),
        # It scores at one speed, so that what it scored tells how long it was busy.
        "device_busy": significant(queries * CANDIDATES / pairs_per_s / seconds),
        "worker_cores": cores["worker"],
        "broker_cores": cores["kafka"],
        "benchmark_cores": cores["benchmark"],
    }


class Answers:
    """Counts the answers by the ends of their partitions: who reads them takes more of a processor."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._consumer = Consumer(client_config(kafka) | {"group.id": "counts", "enable.auto.commit": False})
        self._partitions = [TopicPartition(kafka.answer_topic, number) for number in range(kafka.partitions)]

    def count(self) -> int:
        """Return how many there are now."""
        ends = [self._consumer.get_watermark_offsets(each, timeout=REQUEST_TIMEOUT_S) for each in self._partitions]
        return sum(end for _, end in ends)

    def await_count(self, count: int, worker: WorkerProcess) -> None:
        """Return when there are so many; RuntimeError if the worker makes no more of them."""
        there = await_condition(lambda: worker.ended or self._has(count), timeout_s=TIMEOUT_S)
        if not there or worker.ended:
            raise RuntimeError(f"{count} answers do not come: {worker.log_path.read_text()[-2_000:]}")

    def _has(self, count: int) -> bool:
        try:
            return self.count() >= count
        except KafkaException as error:
            # Partitions that have just been made have no leader yet.
            if error.args[0].retriable():
                return False
            raise

    def close(self) -> None:
        self._consumer.close()


if __name__ == "__main__":
    main()
