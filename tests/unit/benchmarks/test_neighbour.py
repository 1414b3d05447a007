"""What is reckoned from rounds alone and beside a neighbour."""

from collections.abc import Mapping, Sequence

from benchmarks.neighbour import OURS, Row, described, verdict
from benchmarks.scorer_process import Rate, Scoring

LIBGOMP = "libgomp's own"


def rounds(*pairs_per_s: float) -> list[Rate]:
    return [Rate(each, cpu_ms_per_pair=10) for each in pairs_per_s]


def rates(policy: str, dtype: str, one: Sequence[float], two: Sequence[float]) -> Mapping[Row, list[Rate]]:
    """Alone, then beside a busy process, of one thread and of two; in each of two rounds alike."""
    return {
        Row(policy, Scoring("torch", dtype, threads), beside): rounds(rate, rate)
        for threads, both in ((1, one), (2, two))
        for beside, rate in zip((False, True), both, strict=True)
    }


def test_a_ratio_is_to_one_thread_alone_in_the_same_round() -> None:
    one, two = Scoring("torch", "float32", 1), Scoring("torch", "float32", 2)
    found = {
        Row(OURS, one, False): rounds(50, 100),
        Row(OURS, two, False): rounds(100, 180),
        Row(OURS, one, True): rounds(50, 90),
        Row(OURS, two, True): rounds(40, 100),
    }
    ratios = {(row["threads"], row["beside"]): row["times_one_thread_alone"] for row in described(found)}
    assert ratios[1, False] == {"median": 1.0, "min": 1.0, "max": 1.0, "n": 2}
    assert ratios[2, False] == {"median": 1.9, "min": 1.8, "max": 2.0, "n": 2}
    assert ratios[2, True] == {"median": 0.9, "min": 0.8, "max": 1.0, "n": 2}


def test_the_verdict_is_the_worst_precision_and_number_of_threads() -> None:
    found = verdict(
        {
            **rates(OURS, "float32", (50, 49), (98, 45)),
            **rates(OURS, "bfloat16", (100, 95), (196, 85)),
            **rates(LIBGOMP, "float32", (50, 48), (100, 9)),
            **rates(LIBGOMP, "bfloat16", (100, 96), (180, 16)),
        }
    )
    assert found[OURS] == {"worst": 0.85, "quiet": 0.98, "met": True}
    assert found[LIBGOMP] == {"worst": 0.16, "quiet": 0.9184, "met": False}


def test_runtimes_with_threads_of_their_own_are_no_matter_of_the_policy() -> None:
    onnx = {
        row._replace(scoring=row.scoring._replace(backend="onnx")): found
        for row, found in rates(OURS, "float32", (50, 10), (80, 1)).items()
    }
    assert verdict({**rates(OURS, "float32", (50, 49), (98, 45)), **onnx})[OURS]["worst"] == 0.9
