"""The documents say what was measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.headlines import HEADLINES
from benchmarks.table import PERFORMANCE, README, headlines, markers, rendered, replaced

BEGIN, END = markers("benchmarks")


def test_the_performance_page_has_the_tables_of_the_committed_results() -> None:
    page = PERFORMANCE.read_text(encoding="utf-8")
    assert replaced(page, rendered()) == page, "run `python -m benchmarks.table`"


def test_the_readme_has_six_figures_of_the_committed_results() -> None:
    readme = README.read_text(encoding="utf-8")
    assert replaced(readme, headlines(), "headlines") == readme, "run `python -m benchmarks.table`"
    assert len(HEADLINES) == 6


def test_a_result_that_is_absent_has_no_section(tmp_path: Path) -> None:
    assert not rendered(tmp_path)
    assert not headlines(tmp_path)


def test_a_result_is_one_row_a_contender_and_one_column_a_mix(tmp_path: Path) -> None:
    row = {"pairs_per_s": {"median": 1234.5}, "ratio": {"median": 2.5}, "share_of_limit": {"median": 0.75}}
    mix = {"tokens_mean": 38.0, "tokens_p95": 65, "contenders": {"plain": row, "ours": row | {"share_of_limit": None}}}
    result = {
        "model": "a model",
        "corpus": "a corpus",
        "reference": "plain",
        "rounds": 3,
        "machine": {"device": "cpu", "cpu": "a processor", "threads": 2},
        "skipped": {"FlashRank": "not installed", "ours, onnx int8": "needs a processor with VNNI"},
        "gemm_gflops_per_s": {"float32": {"mm": {"median": 40.0}, "prepacked": {"median": 99.6}}},
        "mixes": {"short": mix, "long": mix},
    }
    (tmp_path / "scoring.json").write_text(json.dumps(result))
    lines = rendered(tmp_path).splitlines()
    assert lines[0].endswith("| short (mean 38 tokens, p95 65) | long (mean 38 tokens, p95 65) |")
    assert lines[2] == "| plain | 1,234 (2.50), 75% | 1,234 (2.50), 75% |"
    assert lines[3] == "| ours | 1,234 (2.50) | 1,234 (2.50) |"
    assert "float32 100 GFLOP/s" in lines[-1]
    assert lines[-1].endswith(" Missing: ours, onnx int8 (needs a processor with VNNI).")


def test_a_neighbour_costs_one_row_a_scorer_and_one_column_a_policy(tmp_path: Path) -> None:
    def row(policy: str, backend: str, *, beside: bool, rate: float, ratio: float) -> dict[str, object]:
        scoring = {"policy": policy, "backend": backend, "dtype": "float32", "threads": 2, "beside": beside}
        return scoring | {"pairs_per_s": {"median": rate}, "times_one_thread_alone": {"median": ratio}}

    result = {
        "policies": {"libgomp's own": {}, "the worker's": {}},
        "rounds": 7,
        "rows": [
            row("the worker's", "onnx", beside=False, rate=80.0, ratio=1.5),
            row("the worker's", "torch", beside=False, rate=101.4, ratio=1.9),
            row("libgomp's own", "torch", beside=False, rate=100.0, ratio=1.8),
            row("the worker's", "onnx", beside=True, rate=40.0, ratio=0.7),
            row("the worker's", "torch", beside=True, rate=90.0, ratio=0.9),
            row("libgomp's own", "torch", beside=True, rate=18.0, ratio=0.2),
        ],
        "verdict": {"the worker's": {"worst": 0.9, "quiet": 0.99}},
        "targets": {"worst": 0.8, "quiet": 0.97},
        "machine": {"cores": 2, "cpu": "a processor", "load_at_start": 0.1},
    }
    (tmp_path / "neighbour.json").write_text(json.dumps(result))
    lines = rendered(tmp_path).splitlines()
    assert lines[0].endswith("| libgomp's own | the worker's |")
    assert lines[2] == "| torch float32, 2 threads | 100, 18 (0.20) | 101, 90 (0.90) |"
    assert lines[3] == "| onnx float32, 2 threads |  | 80, 40 (0.70) |"
    assert "The worst of the worker's is 0.90 (target 0.8); alone it does 0.99" in lines[-1]


def test_the_host_path_is_one_column_a_checkout(tmp_path: Path) -> None:
    figures = (
        "worker_us_per_query",
        "stage_us_per_pair",
        "device_busy",
        "queries_per_s",
        "worker_cores",
        "broker_cores",
    )
    result = {
        "device_pairs_per_s": 30_000,
        "candidates": 20,
        "targets": {"worker_us_per_query": 350, "stage_us_per_pair": 5, "device_busy": 0.9},
        "machine": {"cores": 2, "cpu": "a processor"},
        "subjects": {
            name: {each: {"median": 0.5} for each in [*figures, "broker_cores"]} for name in ("against", "this")
        },
    }
    (tmp_path / "host-path.json").write_text(json.dumps(result))
    lines = rendered(tmp_path).splitlines()
    assert lines[0] == "| around a simulated device | against | this |"
    assert lines[2].endswith("(target: 350) | 0.50 | 0.50 |")


def measured_end_to_end() -> dict[str, Any]:
    """Figures as ``benchmarks.end_to_end`` wrote them before it knew an ideal that they are held against."""

    def spread(median: float) -> dict[str, float]:
        return {"median": median, "min": median - 0.1, "max": median + 0.1}

    return {
        "machine": {"cores": 2},
        "candidates": 20,
        "scorer_threads": 2,
        "backlog": {
            "ratio": spread(0.9),
            "ratio_from_first_answer": spread(0.92),
            "target": 0.95,
            "cores_used": {"worker": spread(1.9), "kafka": spread(0.3)},
        },
        "idle": {
            "alone_ms": spread(300),
            "worker_ms": spread(310),
            "waited_for_batches_ms": {"recall": 0.1, "rerank": 1.2},
        },
        "open_loop": [
            {
                "load": 0.7,
                "queries_per_second": 2.4,
                "queries": 110,
                "latency_ms": {"p50": 500, "p95": 1_000, "p99": 1_800},
                "ideal_ms": {"p50": 400, "p95": 900, "p99": 1_500},
            }
        ],
    }


def test_a_load_is_one_row_beside_ideal_queueing(tmp_path: Path) -> None:
    result = measured_end_to_end()
    result["ideal"] = {"model": "a server of equal capacity", "load": 0.7, "target": 1.3}
    result["open_loop"][0]["share_of_capacity"] = {"median": 0.7, "min": 0.68, "max": 0.71}
    result["open_loop"][0]["p99_times_ideal"] = {"median": 1.2, "min": 1.1, "max": 1.4}
    result["backlog"]["ratio_shared"] = {"median": 0.97, "min": 0.96, "max": 0.98}
    result["backlog"]["ratio_per_core"] = {"median": 0.93, "min": 0.92, "max": 0.94}
    result["backlog"]["bare_shared_cores_used"] = {
        role: {"median": cores} for role, cores in (("worker", 0.01), ("kafka", 0.29), ("benchmark", 1.6))
    }
    (tmp_path / "end_to_end.json").write_text(json.dumps(result))
    lines = rendered(tmp_path).splitlines()
    assert lines[0].endswith("| p99 ms | ideal p99 ms | p99 / ideal p99 |")
    assert lines[2] == "| 70% of capacity (68% to 71%) | 2.40 | 500 | 1,000 | 1,800 | 1,500 | 1.20 (1.10 to 1.40) |"
    assert "ideal is a server of equal capacity (target at 70%: 1.3 times" in lines[-1]
    assert "as busy: 0.97 (0.96 to 0.98) (target 0.95); by processor time: 0.93 (0.92 to 0.94)." in lines[-1]
    assert "worker 1.90, kafka 0.30; beside the bare scorer: kafka 0.29." in lines[-1]
    readme = headlines(tmp_path)
    assert "beside as busy a broker; target 0.95 | 0.97 times (0.96 to 0.98) |" in readme
    assert "at 70% of capacity, against ideal queueing (1,500 ms); target 1.3 | 1,800 ms, 1.20 times |" in readme


def test_older_figures_of_a_load_say_what_is_not_measured_yet(tmp_path: Path) -> None:
    (tmp_path / "end_to_end.json").write_text(json.dumps(measured_end_to_end()))
    lines = rendered(tmp_path).splitlines()
    assert lines[2].endswith("| 1,500 | 1.20 |")
    assert "1 / capacity for each, and nothing else" in lines[-1]
    assert "as busy: not measured yet (target 0.95); by processor time: not measured yet." in lines[-1]
    assert "against the bare scorer; target 0.95 | 0.90 times (0.80 to 1.00) |" in headlines(tmp_path)


def test_only_what_stands_between_the_markers_changes() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb", r"new \1") == f"a\n{BEGIN}\nnew \\1\n{END}\nb"


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        replaced("nothing", "new")
