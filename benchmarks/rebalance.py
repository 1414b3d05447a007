"""How long partitions stand still when a consumer joins, and when one is killed. Imported by ``benchmarks.scaling``."""

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.common import significant
from benchmarks.stack import SESSION_TIMEOUT_S, Asker, Observer, Seen, Servers, ending, start_simulated_worker
from schemas.events import QueryEvent
from worker.settings import KafkaSettings

Protocol = Literal["classic", "consumer"]

PARTITIONS = 24
CONSUMERS = 3
HOLD_S = 0.01
PER_SECOND = 72.0
"""Three queries per partition and second: what a pause can be seen by."""
WATCH_S = 5.0
TIMEOUT_S = 60.0


def rebalance_seconds(stack: Servers, protocol: Protocol) -> dict[str, float]:
    """Return the seconds of both rebalances, from a group of ``CONSUMERS`` with steady traffic.

    ``join_*``: from the newcomer's first call to the group until its first answer, and the longest time without an
    answer in a partition that moved. ``kill_*``: from ``kill -9`` until the first answer in each of the victim's
    partitions; before the session has timed out nobody can know.
    """
    kafka = stack.new_topics(PARTITIONS, group_protocol=protocol)
    with closing(Observer(kafka)) as observer, ending([]) as workers, _traffic(kafka):

        def start(name: str) -> Path:
            log_path = stack.folder / f"worker-{kafka.group_id}-{name}.log"
            workers.append(start_simulated_worker(kafka, log_path, worker_id=name, hold_s=HOLD_S))
            return log_path

        for number in range(CONSUMERS):
            start(f"w{number}")
        observer.await_that(lambda: len(_owners(observer.answers)) == CONSUMERS, "all consumers", TIMEOUT_S)
        time.sleep(WATCH_S)
        ordinary_s = _longest_gap(observer.answers[-int(WATCH_S * PER_SECOND) :], range(PARTITIONS))

        log_path = start("newcomer")
        observer.await_that(lambda: "newcomer" in _owners(observer.answers), "an answer of the newcomer", TIMEOUT_S)
        time.sleep(WATCH_S)
        joined_s = _logged_s(log_path, "joining")
        of_newcomer = [answer for answer in list(observer.answers) if answer.worker == "newcomer"]
        moved = {answer.partition for answer in of_newcomer}
        since_join = [answer for answer in list(observer.answers) if answer.written_s > joined_s - 1]
        join_gap_s = _longest_gap(since_join, moved)
        repeated = len(observer.answers) - len({answer.query_id for answer in list(observer.answers)})

        victim = workers[0]
        seen = len(observer.answers)
        lost = {partition for partition, worker in _owner_of(observer.answers).items() if worker == "w0"}
        killed_s = time.time()
        victim.kill()
        observer.await_that(
            lambda: lost <= {a.partition for a in list(observer.answers)[seen:] if a.worker != "w0"},
            "answers of all partitions of the killed consumer",
            TIMEOUT_S,
        )
        firsts: dict[int, float] = {}
        for answer in list(observer.answers)[seen:]:
            if answer.partition in lost and answer.worker != "w0":
                firsts.setdefault(answer.partition, answer.written_s - killed_s)
    return {
        "join_to_first_answer_s": significant(of_newcomer[0].written_s - joined_s),
        "join_longest_gap_s": significant(join_gap_s),
        "ordinary_longest_gap_s": significant(ordinary_s),
        "partitions_moved_by_join": len(moved),
        "answers_repeated_by_join": repeated,
        "kill_to_first_answer_s": significant(min(firsts.values())),
        "kill_to_median_partition_s": significant(median(firsts.values())),
        "kill_to_last_partition_s": significant(max(firsts.values())),
        "partitions_of_the_killed": len(lost),
        "session_timeout_s": SESSION_TIMEOUT_S,
    }


@contextmanager
def _traffic(kafka: KafkaSettings) -> Iterator[None]:
    stopping = threading.Event()

    def ask() -> None:
        asker, number, begun_s = Asker(kafka), 0, time.monotonic()
        while not stopping.wait(max(0.0, begun_s + number / PER_SECOND - time.monotonic())):
            asker.ask(QueryEvent(id=f"q{number}", text="who is there?", top_k=5, generate=False))
            number += 1
        asker.flush()

    thread = threading.Thread(target=ask, name="traffic", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)


def _owners(answers: Sequence[Seen]) -> set[str]:
    return {answer.worker for answer in list(answers)}


def _owner_of(answers: Sequence[Seen]) -> dict[int, str]:
    """Return who has answered last in each partition."""
    return {answer.partition: answer.worker for answer in list(answers)}


def _longest_gap(answers: Sequence[Seen], partitions: Sequence[int] | set[int]) -> float:
    """Return the longest time between two answers of one of the partitions, in seconds."""
    longest_s = 0.0
    for partition in partitions:
        times = sorted(answer.written_s for answer in list(answers) if answer.partition == partition)
        longest_s = max([longest_s, *(later - earlier for earlier, later in itertools.pairwise(times))])
    return longest_s


def _logged_s(log_path: Path, event: str) -> float:
    """Return the ``unix_s`` of a worker's log line."""
    for line in log_path.read_text().splitlines():
        if line.startswith("{") and (entry := json.loads(line)).get("event") == event:
            return float(entry["unix_s"])
    raise RuntimeError(f"{log_path} has no {event!r}")
