"""Tuning, on a model with random weights: every combination is measured or refused with its reason."""

from pathlib import Path

import pytest

from worker.domain import Candidate, Query
from worker.errors import FatalError
from worker.models.resolve import ResolvedModel
from worker.rerank.tune import Refusal, Trial, Tuner, fastest
from worker.settings import RerankSettings

DOCUMENTS = ["paris capital", "kafka consumer groups " * 4, "debezium mysql permissions", "a", "france"]
LOAD = [
    (
        Query(text, text, "tune", len(DOCUMENTS), 3),
        [Candidate(document, document, rank, 0.0) for rank, document in enumerate(DOCUMENTS, 1)],
    )
    for text in ("capital france", "debezium permissions")
]
START = RerankSettings(device="cpu", threads=2, max_length=64, batch_tokens=16_384)


def outcomes(folder: Path, cache_dir: Path) -> list[Trial | Refusal]:
    model = ResolvedModel("cross-encoder", "random", folder, "folder")
    return list(Tuner(model, START, LOAD, cache_dir=cache_dir, seconds=0.01).outcomes())


def test_each_combination_is_measured_or_refused_with_its_reason(model_folder: Path, tmp_path: Path) -> None:
    tried = outcomes(model_folder, tmp_path)
    first, *others = tried
    assert isinstance(first, Trial)
    assert (first.settings.backend, first.settings.dtype, first.largest_difference) == ("torch", "float32", 0)
    half = next(each for each in others if each.settings.dtype == "float16")
    assert isinstance(half, Refusal)
    assert "float16" in half.reason
    measured = [each for each in tried if isinstance(each, Trial)]
    assert {1, 2} == {each.settings.threads for each in measured}
    assert {1_024, 16_384} < {each.settings.batch_tokens for each in measured}
    assert fastest(measured).pairs_per_s == max(each.pairs_per_s for each in measured)


def test_float32_trials_rank_alike(model_folder: Path, tmp_path: Path) -> None:
    exact = [
        each
        for each in outcomes(model_folder, tmp_path)
        if isinstance(each, Trial) and each.settings.dtype == "float32"
    ]
    assert len(exact) > 1
    assert all(trial.largest_difference < 1e-4 and trial.same_top == 1 for trial in exact)


def test_a_model_that_can_not_be_had_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="can't be loaded"):
        outcomes(tmp_path, tmp_path)
