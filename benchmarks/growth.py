"""How throughput and a worker's memory grow with candidates, text length, backlog and collection.

``python -m benchmarks.growth [--vectors N ...]`` writes ``results/growth.json``; some 12 minutes; ``--only PART ...``
prints a part and writes nothing.
``candidates`` and ``text`` run the real worker with the offline cross-encoder; ``backlog`` is a SIMULATION of recall
and scorer, so that the loop alone is seen; ``collection`` searches vectors of random directions.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import psutil

from benchmarks.common import print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.stack import Asker, Observer, Servers, ending, servers, start_simulated_worker
from benchmarks.vectors import DIMENSION, EMBEDDING, fill, passages
from schemas.events import QueryEvent
from tests.worker_process import WorkerProcess, start_worker_process
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.recall.chroma_collections import open_collection
from worker.recall.chroma_connection import ChromaConnection
from worker.settings import KafkaSettings, RecallSettings

PARTITIONS = 12
TOP_K = 20
WORDS = {"short": 15, "medium": 80, "long": 300}
PASSAGES = 1_500
RETRIEVALS = 60
QUESTION = "Which privileges does a user need to capture changes from PostgreSQL?"
PARTS = ("candidates", "text", "backlog", "collection")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--candidates", type=int, nargs="+", default=[5, 20, 100, 300, 1_000])
    parser.add_argument("--pairs", type=int, default=3_000, help="scored for each number of candidates")
    parser.add_argument("--text-pairs", type=int, default=1_000, help="scored for each length of text")
    parser.add_argument("--backlog", type=int, nargs="+", default=[1_000, 10_000, 30_000])
    parser.add_argument("--vectors", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    result: dict[str, Any] = {"what": "growth of throughput and memory; see benchmarks/growth.py", "machine": facts()}
    with servers(chroma=True) as stack:
        if {"candidates", "text"} & set(options.only):
            with real_worker(stack) as lab:
                if "candidates" in options.only:
                    counts = {count: max(3, options.pairs // count) for count in options.candidates}
                    result["candidates"] = [lab.ask(n, count, "medium") for count, n in counts.items()]
                if "text" in options.only:
                    queries = max(3, options.text_pairs // TOP_K)
                    result["text"] = [lab.ask(queries, TOP_K, length) for length in WORDS]
        if "backlog" in options.only:
            result["backlog"] = [backlog(stack, events) for events in options.backlog]
        if "collection" in options.only:
            result["collection"] = [collection(stack, size) for size in options.vectors]
    if set(PARTS) <= result.keys():
        # A part by itself is for looking at: it would take the others' figures out of the README.
        save("growth", result)
    for part in PARTS:
        if part in result:
            rows = result[part]
            print(f"\n{part}{' (SIMULATED recall and scorer)' if part == 'backlog' else ''}")
            print_table(list(rows[0]), [list(row.values()) for row in rows])


class Lab:
    """One real worker; its memory is that of everything asked so far, so the smaller comes first."""

    def __init__(self, worker: WorkerProcess, kafka: KafkaSettings, observer: Observer) -> None:
        self._process = psutil.Process(worker.process.pid)
        self._asker = Asker(kafka)
        self._observer = observer
        self._number = 0

    def ask(self, queries: int, candidates: int, length: str) -> dict[str, Any]:
        """Work off a backlog of these queries; pairs per second from the first one asked to the last answer."""
        first, begun_s = self._observer.count, time.time()
        for _ in range(queries):
            self._number += 1
            self._asker.ask(
                QueryEvent(
                    id=f"q{self._number}",
                    # A question of its own: the same pair twice in a batch would be scored once.
                    text=f"{QUESTION} ({self._number})",
                    top_k=candidates,
                    generate=False,
                    collection=f"{length}-texts",
                )
            )
        self._asker.flush()
        self._observer.await_count(first + queries)
        answers = self._observer.answers[first:]
        elapsed_s = max(answer.written_s for answer in answers) - begun_s
        assert all(answer.status == "ok" for answer in answers)
        return {
            "candidates": candidates,
            "text": f"{length} ({WORDS[length]} words)",
            "queries": queries,
            "queries_per_second": significant(queries / elapsed_s),
            "pairs_per_second": significant(queries * candidates / elapsed_s),
            "rss_mib": significant(self._process.memory_info().rss / 2**20),
        }


@contextmanager
def real_worker(stack: Servers) -> Iterator[Lab]:
    recall = recall_settings(stack)
    for length, words in WORDS.items():
        fill(recall, f"{length}-texts", passages(PASSAGES, words))
    kafka = stack.new_topics(PARTITIONS)
    with ending([]) as workers, closing(Observer(kafka)) as observer:
        workers.append(
            start_worker_process(
                kafka,
                recall,
                stack.folder / "worker.log",
                RERANK__MODEL=CROSS_ENCODER_NAME,
                RERANK__THREADS="0",
                RECALL__COLLECTION="short-texts",
            )
        )
        workers[0].await_ready()
        lab = Lab(workers[0], kafka, observer)
        lab.ask(10, 5, "short")
        yield lab


def backlog(stack: Servers, events: int) -> dict[str, Any]:
    """SIMULATION: a worker that starts with so many events waiting."""
    kafka = stack.new_topics(PARTITIONS)
    asker = Asker(kafka)
    for number in range(events):
        asker.ask(QueryEvent(id=f"q{number}", text=QUESTION, top_k=TOP_K, generate=False))
    asker.flush()
    peak = 0
    with ending([]) as workers, closing(Observer(kafka)) as observer:
        workers.append(start_simulated_worker(kafka, stack.folder / "simulated.log"))
        process = psutil.Process(workers[0].process.pid)
        deadline_s = time.monotonic() + 300
        while observer.count < events and time.monotonic() < deadline_s:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.1)
        observer.await_count(events, timeout_s=1)
        # The first second is the start of the loop; the answers of a small backlog may all be in it.
        written = sorted(answer.written_s for answer in observer.answers)
    return {
        "backlog": events,
        "queries_per_second": significant(events / max(1e-3, written[-1] - written[0])),
        "peak_rss_mib": significant(peak / 2**20),
    }


def collection(stack: Servers, size: int) -> dict[str, Any]:
    """Fill a collection and search it: one query at a time, and 32 in one call as the worker's batches have them."""
    recall, name = recall_settings(stack), f"vectors-{size}"
    begun_s = time.monotonic()
    fill(recall, name, passages(size, WORDS["short"]))
    filled_s = time.monotonic() - begun_s
    draw = np.random.default_rng(7)
    one: list[float] = []
    many: list[float] = []
    connection = ChromaConnection(recall)
    try:
        deadline = time.monotonic() + 600
        handle = connection.run(lambda client: open_collection(client, name, EMBEDDING, top_k=TOP_K), deadline=deadline)
        for batch, times in [(1, one), (recall.max_batch, many)]:
            for number in range(5 + RETRIEVALS // (1 if batch == 1 else 4)):
                vectors = draw.standard_normal((batch, DIMENSION)).astype(np.float32)
                begun_s = time.perf_counter()
                handle.handle.query(query_embeddings=vectors, n_results=TOP_K)
                if number >= 5:
                    times.append((time.perf_counter() - begun_s) * 1000)
    finally:
        connection.close()
    return {
        "vectors": size,
        "recall_p50_ms": summary(one)["median"],
        "recall_min_ms": summary(one)["min"],
        "recall_max_ms": summary(one)["max"],
        "recall_of_32_p50_ms": summary(many)["median"],
        "filling_s": significant(filled_s),
    }


def recall_settings(stack: Servers) -> RecallSettings:
    assert stack.chroma is not None
    return RecallSettings(host=stack.chroma.host, port=stack.chroma.port)


if __name__ == "__main__":
    main()
