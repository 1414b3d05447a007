"""A worker between Kafka and Kafka, and the bare parts beside it: backlogs, single queries, arrivals on a schedule."""

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from benchmarks.bare import Bare, event
from benchmarks.common import percentile, significant, summary
from benchmarks.queueing import Round, against_ideal, arrivals
from benchmarks.stack import Asker, Observer, Seen, cores_used, cpu_seconds, labelled_metric
from benchmarks.traffic import Traffic
from tests.worker_process import WorkerProcess
from worker.rerank.pairs.batch import EncodedPair
from worker.telemetry.labels import BATCHERS

RATIO_TARGET = 0.95
RATE = "queries_per_second"
IDLE_GAP_S = 0.2
SCORING = "rerank_worker_batch_duration_seconds_sum"
WAITED = "rerank_worker_batch_wait_seconds"
# Few enough that the pairs of a query are one batch: the second of two would wait for the first.
LINGER_CANDIDATES = 5
# Events beside the bare scorer for each query that it scores: they must last, however quick the traffic is.
TRAFFIC_PER_QUERY = 2


class Lab:
    """One worker with its observer, and the bare parts beside it; never both at work at once."""

    def __init__(self, alone: Bare, worker: WorkerProcess, asker: Asker, observer: Observer, traffic: Traffic) -> None:
        self._bare = alone
        self._worker = worker
        self._asker = asker
        self._observer = observer
        self._traffic = traffic

    def backlog(self, queries: int) -> dict[str, Any]:
        """Produce a backlog, wait until it is worked off, and return what was measured."""
        first = self._observer.count
        scoring_s, cpu = self._scoring_s(), cpu_seconds([self._worker])
        begun_s = time.time()
        for number in range(queries):
            # What was asked before has left its vector and its passages' tokens in the worker.
            self._asker.ask(event(first + number))
        self._asker.flush()
        written = [answer.written_s for answer in self._answers(first, queries)]
        elapsed_s = max(written) - begun_s
        return {
            RATE: queries / elapsed_s,
            "from_first_answer": (queries - 1) / (max(written) - min(written)),
            "scorer_share": (self._scoring_s() - scoring_s) / elapsed_s,
            "cores": cores_used(cpu, cpu_seconds([self._worker]), elapsed_s),
        }

    def throughput(self, rounds: int, round_s: float, per_second: float) -> dict[str, Any]:
        """Work off a backlog, and score the same pairs bare: beside an idle broker, and beside traffic. In turns.

        The traffic has the rate of the worker's latest round, ``per_second`` before the first.
        """
        trial = self._bare.pairs(10)
        self._bare.score_all(trial)
        queries = max(20, round(round_s / (self._bare.score_all(trial) / 10)))
        pairs = self._bare.pairs(queries)
        ours, alone, shared = [], [], []
        # A machine that is shared gets slower and faster: each round of ours lies between two of theirs.
        for number in range(rounds + 1):
            alone.append(self._scored(pairs, queries))
            with self._traffic.flowing(event(0), per_second, TRAFFIC_PER_QUERY * queries):
                shared.append(self._scored(pairs, queries))
            if number < rounds:
                ours.append(self.backlog(queries))
                per_second = ours[-1][RATE]
        return {
            "queries": queries,
            "pairs": len(pairs),
            "rounds": rounds,
            "worker_queries_per_second": summary(_each(ours, RATE)),
            "bare_queries_per_second": summary(_each(alone, RATE)),
            "bare_shared_queries_per_second": summary(_each(shared, RATE)),
            "ratio": over_those_around(_each(ours, RATE), _each(alone, RATE)),
            "ratio_shared": over_those_around(_each(ours, RATE), _each(shared, RATE)),
            "ratio_per_core": over_those_around(_per_core(ours, "worker"), _per_core(alone, "benchmark")),
            "ratio_from_first_answer": over_those_around(_each(ours, "from_first_answer"), _each(alone, RATE)),
            "target": RATIO_TARGET,
            "share_of_time_in_scorer": summary(_each(ours, "scorer_share")),
            "cores_used": _by_role(ours),
            "bare_cores_used": _by_role(alone),
            "bare_shared_cores_used": _by_role(shared),
        }

    def _scored(self, pairs: Sequence[EncodedPair], queries: int) -> dict[str, Any]:
        """Score the pairs of so many queries bare, and return what was measured."""
        cpu = cpu_seconds([self._worker])
        elapsed_s = self._bare.score_all(pairs)
        return {RATE: queries / elapsed_s, "cores": cores_used(cpu, cpu_seconds([self._worker]), elapsed_s)}

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

    def under_load(
        self, loads: Sequence[float], rounds: int, load_s: float, seed: int, alone_s: float, queries: int
    ) -> list[dict[str, Any]]:
        """Let queries arrive at shares of the capacity, in turns; return a row for each, beside ideal queueing.

        Before and after every round a backlog of ``queries`` tells the capacity: what the machine does meanwhile to
        the worker it does to the ideal too.
        """
        measured: defaultdict[float, list[Round]] = defaultdict(list)
        before = self.backlog(queries)[RATE]
        for number in range(rounds):
            for load in loads:
                due_s = arrivals(load * before, load_s, seed + number)
                latency_s, late_s = self._ask_when_due(due_s)
                after = self.backlog(queries)[RATE]
                measured[load].append(Round(due_s, latency_s, late_s, load * before, (before + after) / 2))
                before = after
        return [{"load": load} | against_ideal(found, alone_s) for load, found in measured.items()]

    def _ask_when_due(self, due_s: Sequence[float]) -> tuple[list[float], list[float]]:
        """Ask on a schedule that waits for nothing; return latencies from when each was due, and how late each left."""
        first, late_s = self._observer.count, []
        start_s = time.time() + 0.2
        for number, at_s in enumerate(due_s, first):
            time.sleep(max(0.0, start_s + at_s - time.time()))
            late_s.append(time.time() - start_s - at_s)
            self._asker.ask(event(number))
        due = {f"q{number}": start_s + at_s for number, at_s in enumerate(due_s, first)}
        answers = self._answers(first, len(due_s))
        return [answer.seen_s - due[answer.query_id] for answer in answers], late_s

    def _answers(self, first: int, queries: int) -> list[Seen]:
        """Wait for so many answers from the given number on, and return them; all must have been answered."""
        self._observer.await_count(first + queries)
        answers = self._observer.answers[first:]
        assert all(answer.status == "ok" for answer in answers), {answer.status for answer in answers}
        return answers

    def _scoring_s(self) -> float:
        return labelled_metric(self._worker, SCORING, batcher="rerank")


def over_those_around(rates: Sequence[float], bare: Sequence[float]) -> dict[str, float]:
    """Return the summary of each rate over the mean of the two bare ones between which it was measured."""
    around = [(before + after) / 2 for before, after in pairwise(bare)]
    return summary([rate / bare_rate for rate, bare_rate in zip(rates, around, strict=True)])


def _each(rounds: Sequence[dict[str, Any]], figure: str) -> list[float]:
    return [each[figure] for each in rounds]


def _per_core(rounds: Sequence[dict[str, Any]], role: str) -> list[float]:
    """Return queries per second of processor time that the role's process took."""
    return [each[RATE] / each["cores"][role] for each in rounds]


def _by_role(rounds: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {role: summary([each["cores"][role] for each in rounds]) for role in rounds[0]["cores"]}
