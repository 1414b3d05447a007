"""What a busy neighbour costs the CPU scorer, by how OpenMP's threads wait for each other.

``python -m benchmarks.neighbour`` writes ``results/neighbour.json``; about 6 minutes, ``--quick`` one. The worker's own
scorer does the 20 pairs of one query, with one thread and with all, alone and beside a process that never rests
and may run on any core. libgomp reads its policy once, when it is loaded, so each policy has a process of its own; the
policies take turns within a round, one computing at a time. ONNX Runtime and OpenVINO bring threads of their own, for
which the policy means nothing: they stand beside it under the worker's.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

from joblib import cpu_count

from benchmarks.common import print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.measure import SETTLE_S
from benchmarks.scorer_process import Rate, ScorerProcess, Scoring
from benchmarks.workload import CANDIDATES
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.rerank.neighbour import busy_neighbour

MIX = "medium"
OURS = "the worker's"
# 300,000 turns, some milliseconds, are libgomp's own where nobody says anything; with the worker somebody always does.
POLICIES: dict[str, dict[str, str]] = {
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    OURS: {},
    "1,000 turns": {"GOMP_SPINCOUNT": "1000"},
    "100 turns": {"GOMP_SPINCOUNT": "100"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
QUICK = ("libgomp's own", OURS)
OPENMP = (("torch", "float32"), ("torch", "bfloat16"))
OTHERS = (("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "int8"))
WORST_TARGET = 0.8
QUIET_TARGET = 0.97


class Row(NamedTuple):
    """What is measured once a round."""

    policy: str
    scoring: Scoring
    beside: bool
    """Whether a busy process was there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7, help="how long to score at a time")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="beside one; default: the cores")
    parser.add_argument(
        "--quick", action="store_true", help="a rehearsal: 2 rounds, two policies, torch alone, no file"
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.seconds = 2, 0.3
    begun = facts(threads=asked.threads)
    threads = sorted({1, asked.threads})
    with ExitStack() as running:
        subjects = {
            name: running.enter_context(
                ScorerProcess.running(POLICIES[name], MIX, _computes(name, quick=asked.quick), threads)
            )
            for name in (QUICK if asked.quick else POLICIES)
        }
        rates = _measured(subjects, asked.rounds, asked.seconds)
        result = {
            "what": f"the worker's scorer alone and beside one busy process; {CANDIDATES} pairs at a time",
            "machine": begun,
            "model": CROSS_ENCODER_NAME,
            "mix": MIX,
            "rounds": asked.rounds,
            "policies": {name: subject.variables for name, subject in subjects.items()},
            "skipped": subjects[OURS].skipped,
            "rows": described(rates),
            "verdict": verdict(rates),
            "targets": {"worst": WORST_TARGET, "quiet": QUIET_TARGET},
        }
    if not asked.quick:
        save("neighbour", result)
    _report(result)


def _computes(policy: str, *, quick: bool) -> Sequence[tuple[str, str]]:
    return (*OPENMP, *OTHERS) if policy == OURS and not quick else OPENMP


def _measured(subjects: Mapping[str, ScorerProcess], rounds: int, seconds: float) -> dict[Row, list[Rate]]:
    rates: dict[Row, list[Rate]] = defaultdict(list)
    for number in range(rounds):
        turn = number % len(subjects)
        order = [*list(subjects)[turn:], *list(subjects)[:turn]]
        for beside in (False, True):
            with busy_neighbour() if beside else nullcontext():
                # Policy by policy within a scoring, so that what the machine does meanwhile meets all of them.
                for scoring in subjects[OURS].scorings:
                    for name in (each for each in order if scoring in subjects[each].scorings):
                        time.sleep(SETTLE_S)
                        rates[Row(name, scoring, beside)].append(subjects[name].rate(scoring, seconds))
        print(f"round {number + 1} of {rounds} done", flush=True)
    return rates


def described(rates: Mapping[Row, Sequence[Rate]]) -> list[dict[str, Any]]:
    """Return each row's figures; its ratio is to one thread that has the machine to itself, in the same round."""
    rows = []
    for row, found in rates.items():
        alone = rates[row._replace(scoring=row.scoring._replace(threads=1), beside=False)]
        ratios = [each.pairs_per_s / one.pairs_per_s for each, one in zip(found, alone, strict=True)]
        rows.append(
            {
                "policy": row.policy,
                **row.scoring._asdict(),
                "beside": row.beside,
                "pairs_per_s": summary([each.pairs_per_s for each in found]),
                "cpu_ms_per_pair": summary([each.cpu_ms_per_pair for each in found]),
                "times_one_thread_alone": summary(ratios),
            }
        )
    return rows


def verdict(rates: Mapping[Row, Sequence[Rate]]) -> dict[str, dict[str, float | bool]]:
    """Return, of each policy, its worst case over one thread alone and its quiet case over the best policy's.

    Of medians; the least over the precisions that torch computes in and the numbers of threads.
    """
    rows = described(rates)
    quiet: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    worst: dict[str, list[float]] = defaultdict(list)
    for row in (row for row in rows if (row["backend"], row["dtype"]) in OPENMP):
        if row["beside"]:
            worst[row["policy"]].append(row["times_one_thread_alone"]["median"])
        else:
            quiet[row["dtype"], row["threads"]][row["policy"]] = row["pairs_per_s"]["median"]
    found: dict[str, dict[str, float | bool]] = {}
    for policy, ratios in worst.items():
        share = min(each[policy] / max(each.values()) for each in quiet.values())
        found[policy] = {
            "worst": significant(min(ratios)),
            "quiet": significant(share),
            "met": min(ratios) >= WORST_TARGET and share >= QUIET_TARGET,
        }
    return found


def _report(result: Mapping[str, Any]) -> None:
    for name, reason in result["skipped"].items():
        print(f"skipped {name}: {reason}")
    print_table(
        ("policy", "backend", "dtype", "threads", "beside", "pairs/s", "min", "max", "CPU ms/pair", "of one alone"),
        [
            (
                *(row[name] for name in ("policy", "backend", "dtype", "threads", "beside")),
                *(row["pairs_per_s"][name] for name in ("median", "min", "max")),
                row["cpu_ms_per_pair"]["median"],
                row["times_one_thread_alone"]["median"],
            )
            for row in sorted(result["rows"], key=lambda row: (row["backend"], row["dtype"], row["threads"]))
        ],
    )
    for policy, found in result["verdict"].items():
        print(
            f"{policy}: worst case {found['worst']:.2f} of one thread alone (target {WORST_TARGET}), quiet "
            f"{found['quiet']:.2f} of the best policy (target {QUIET_TARGET}): {'met' if found['met'] else 'missed'}"
        )
    print(f"load average at the start: {result['machine']['load_at_start']}")


if __name__ == "__main__":
    main()
