"""SIMULATED scorer, real worker loop, real Kafka: does a worker's memory grow with the events it has handled?

``python -m benchmarks.memory [--events N] [--warm-up N]`` writes ``results/memory.json``; some 3 minutes for 100,000
events. The backlog is kept between two marks, so that what librdkafka prefetches stays the same throughout.
"""

import argparse
import time

import psutil

from benchmarks.common import print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.stack import Asker, Observer, ending, servers, start_simulated_worker
from schemas.events import QueryEvent

PARTITIONS = 12
BACKLOG = 2_000
SAMPLE_EVERY = 1_000
TARGET = 0.02
TOP_K = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--warm-up", type=int, default=10_000)
    options = parser.parse_args()
    begun = facts()
    samples = measured(options.events)
    # A tenth of the samples on each side: one reading may meet a batch in work.
    width = max(1, len(samples) // 10)
    after_warm_up = [mib for events, mib, _ in samples if events >= options.warm_up][:width]
    at_end = [mib for _, mib, _ in samples][-width:]
    before, after = summary(after_warm_up), summary(at_end)
    growth = after["median"] / before["median"] - 1
    result = {
        "what": "RSS of one worker process over many events; SIMULATED recall and scorer, the rest is real",
        "machine": begun,
        "events": options.events,
        "warm_up_events": options.warm_up,
        "pairs_per_event": TOP_K,
        "events_per_second": significant(samples[-1][0] / samples[-1][2]),
        "mib_after_warm_up": before,
        "mib_at_end": after,
        "growth": round(growth, 5),
        "target": TARGET,
        "samples": [{"events": events, "mib": round(mib, 2)} for events, mib, _ in samples],
    }
    save("memory", result)
    shown = samples[:: max(1, len(samples) // 10)]
    print("SIMULATION of recall and scorer; the loop and Kafka are real")
    print_table(("events", "RSS MiB", "seconds"), shown)
    print(f"growth from {options.warm_up} to {options.events} events: {growth:+.2%} (target {TARGET:.0%} at most)")


def measured(events: int) -> list[tuple[int, float, float]]:
    """Return (answers so far, RSS in MiB, seconds since the first) every ``SAMPLE_EVERY`` answers."""
    samples: list[tuple[int, float, float]] = []
    with servers(chroma=False) as stack, ending([]) as workers:
        kafka = stack.new_topics(PARTITIONS)
        workers.append(start_simulated_worker(kafka, stack.folder / "worker.log"))
        process = psutil.Process(workers[0].process.pid)
        asker, observer = Asker(kafka), Observer(kafka, keep=False)
        begun_s = time.monotonic()
        asked, due, last_s = 0, SAMPLE_EVERY, begun_s
        while observer.count < events:
            while asked < events and asked - observer.count < BACKLOG:
                asker.ask(QueryEvent(id=f"q{asked}", text="how large is it?", top_k=TOP_K, generate=False))
                asked += 1
            if observer.count >= due:
                samples.append((observer.count, process.memory_info().rss / 2**20, time.monotonic() - begun_s))
                due = observer.count + SAMPLE_EVERY
                last_s = time.monotonic()
            if time.monotonic() - last_s > 120:
                raise RuntimeError(f"no answers any more; {workers[0].log_path.read_text()[-2000:]}")
            time.sleep(0.01)
        samples.append((observer.count, process.memory_info().rss / 2**20, time.monotonic() - begun_s))
        asker.flush()
        observer.close()
    return samples


if __name__ == "__main__":
    main()
