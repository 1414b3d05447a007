"""SIMULATED accelerators, real Kafka and worker loops: throughput of 1 to 8 consumers of one group.

``python -m benchmarks.scaling`` writes ``results/scaling.json``; some 6 minutes. Each consumer is a process of its own
whose accelerator holds every batch for a fixed time without using the CPU: what is measured is whether Kafka, the
group and the loop keep the accelerators busy. How long the group takes to rebalance is measured beside it.
"""

import argparse
import time
from collections import Counter
from statistics import median

from benchmarks.common import print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.rebalance import rebalance_seconds
from benchmarks.simulated_worker import BATCH_PAIRS
from benchmarks.stack import Asker, Observer, Servers, ending, servers, start_simulated_worker
from schemas.events import QueryEvent

PARTITIONS = 48
TOP_K = 20
SETTLE_S = 3.0
# A consumer takes this much in advance; beyond it there must be enough for the whole window.
SPARE_QUERIES_PER_CONSUMER = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--consumers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--hold-ms", type=float, default=200.0, help="how long a batch of 64 pairs holds its device")
    parser.add_argument("--window-s", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rebalances", type=int, default=1, help="per protocol; 0 leaves them out")
    options = parser.parse_args()
    begun = facts()
    rates: dict[int, list[float]] = {count: [] for count in options.consumers}
    with servers(chroma=False) as stack:
        for _ in range(options.rounds):
            for count, found in rates.items():
                found.append(throughput(stack, count, options.hold_ms / 1000, options.window_s))
        rebalances = {
            protocol: [rebalance_seconds(stack, protocol) for _ in range(options.rebalances)]
            for protocol in ("classic", "consumer")
        }
    first = options.consumers[0]
    alone = [rate / first for rate in rates[first]]
    efficiency = {
        count: [rate / (count * one) for rate, one in zip(found, alone, strict=True)] for count, found in rates.items()
    }
    ideal = BATCH_PAIRS / TOP_K / (options.hold_ms / 1000)
    result = {
        "what": "SIMULATION: queries per second of n consumers with simulated accelerators on real Kafka",
        "machine": begun,
        "hold_ms": options.hold_ms,
        "partitions": PARTITIONS,
        "candidates": TOP_K,
        "window_s": options.window_s,
        "device_limit_per_consumer": significant(ideal),
        "consumers": {
            str(count): {
                "queries_per_second": summary(rates[count]),
                "efficiency": summary(efficiency[count]),
                "share_of_device_limit": significant(median(rates[count]) / (count * ideal)),
            }
            for count in rates
        },
        "rebalance": rebalances,
    }
    save("scaling", result)
    print(f"SIMULATION: every batch of 64 pairs holds its accelerator for {options.hold_ms:g} ms, using no CPU")
    print_table(
        ("consumers", "queries/s", "efficiency", "of the devices' limit"),
        [
            (count, median(rates[count]), median(efficiency[count]), median(rates[count]) / (count * ideal))
            for count in rates
        ],
    )
    for protocol, measured in rebalances.items():
        for one in measured:
            print(f"rebalance, {protocol}: {one}")


def throughput(stack: Servers, count: int, hold_s: float, window_s: float) -> float:
    """Return the answers per second of ``count`` consumers with more to do than they can."""
    kafka = stack.new_topics(PARTITIONS)
    asker, observer = Asker(kafka), Observer(kafka)
    per_second = BATCH_PAIRS / TOP_K / hold_s
    # What they do while the others of them start comes on top.
    queries = int(count * (per_second * (window_s + SETTLE_S + 20) + SPARE_QUERIES_PER_CONSUMER))
    for number in range(queries):
        asker.ask(QueryEvent(id=f"q{number}", text="how fast?", top_k=TOP_K, generate=False))
    asker.flush()
    with ending([]) as workers:
        for number in range(count):
            log_path = stack.folder / f"worker-{kafka.group_id}-{number}.log"
            workers.append(start_simulated_worker(kafka, log_path, worker_id=f"w{number}", hold_s=hold_s))
        observer.await_that(
            lambda: len({answer.worker for answer in list(observer.answers)}) == count,
            f"answers of all {count} consumers",
        )
        time.sleep(SETTLE_S)
        start_s = time.time()
        time.sleep(window_s)
        end_s = time.time()
        # What was written within the window may still be on its way here.
        time.sleep(1)
        observer.close()
    inside = [answer for answer in observer.answers if start_s <= answer.written_s < end_s]
    shares = Counter(answer.worker for answer in inside)
    assert len(observer.answers) < queries, "the backlog ran out: the window says nothing"
    print(f"  {count} consumers: {len(inside) / window_s:.1f} queries/s, by consumer {sorted(shares.values())}")
    return len(inside) / window_s


if __name__ == "__main__":
    main()
