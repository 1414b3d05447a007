"""The documents say what was measured."""

import json
from pathlib import Path

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


def test_only_what_stands_between_the_markers_changes() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb", r"new \1") == f"a\n{BEGIN}\nnew \\1\n{END}\nb"


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        replaced("nothing", "new")
