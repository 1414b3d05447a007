"""Tuning, on a model with random weights: every combination is measured or refused with its reason."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from worker.domain import Candidate, Query
from worker.errors import FatalError
from worker.models.resolve import ResolvedModel
from worker.rerank import neighbour
from worker.rerank.tune import Load, Refusal, Trial, Tuner, recommended, steadiest
from worker.settings import RerankSettings

DOCUMENTS = ["paris capital", "kafka consumer groups " * 4, "debezium mysql permissions", "a", "france"]
LOAD = [
    (
        Query(text, text, "tune", len(DOCUMENTS), 3),
        [Candidate(document, document, rank, 0.0) for rank, document in enumerate(DOCUMENTS, 1)],
    )
    for text in ("capital france", "debezium permissions")
]
Tried = list[tuple[Trial | Refusal, list[int]]]

START = RerankSettings(device="cpu", threads=2, max_length=64, batch_tokens=16_384)


class WatchedLoad(list[tuple[Query, list[Candidate]]]):
    """Notes beside how many busy processes it is scored, each time that it is."""

    def __init__(self) -> None:
        super().__init__(LOAD)
        self.neighbours: list[int] = []

    def __iter__(self) -> Iterator[tuple[Query, list[Candidate]]]:
        self.neighbours.append(sum(neighbour.SPIN in each.cmdline() for each in psutil.Process().children()))
        return super().__iter__()


def tuner(folder: Path, cache_dir: Path, load: Load) -> Tuner:
    model = ResolvedModel("cross-encoder", "random", folder, "folder")
    return Tuner(model, START, load, cache_dir=cache_dir, seconds=0.01)


@pytest.fixture(scope="module")
def tried(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Each outcome, and beside how many busy processes the load was scored for it, each time."""
    load = WatchedLoad()
    found = []
    for outcome in tuner(model_folder, tmp_path_factory.mktemp("tune"), load).outcomes():
        seen, load.neighbours = load.neighbours, []
        found.append((outcome, seen))
    return found


def trial(threads: int, alone: float, beside: float) -> Trial:
    settings = RerankSettings(threads=threads)
    return Trial(settings, alone, beside, query_ms=1, largest_difference=0, same_top=1)


def test_each_combination_is_measured_or_refused_with_its_reason(tried: Tried) -> None:
    outcomes = [outcome for outcome, _ in tried]
    first, *others = outcomes
    assert isinstance(first, Trial)
    assert (first.settings.backend, first.settings.dtype, first.largest_difference) == ("torch", "float32", 0)
    half = next(each for each in others if each.settings.dtype == "float16")
    assert isinstance(half, Refusal)
    assert "float16" in half.reason
    measured = [each for each in outcomes if isinstance(each, Trial)]
    assert {1, 2} == {each.settings.threads for each in measured}
    assert {1_024, 16_384} < {each.settings.batch_tokens for each in measured}


def test_each_combination_is_measured_alone_and_beside_a_busy_process(tried: Tried) -> None:
    for outcome, seen in tried:
        if isinstance(outcome, Trial):
            assert outcome.beside_pairs_per_s > 0
            assert set(seen) == {0, 1}
            assert seen == sorted(seen), "what is measured alone comes before the neighbour"
    assert not any(neighbour.SPIN in each.cmdline() for each in psutil.Process().children())


@pytest.mark.parametrize(
    ("trials", "threads"),
    [
        ([trial(2, 100, 20), trial(1, 98, 90)], 1),
        ([trial(2, 100, 20), trial(1, 96, 90)], 2),
        ([trial(2, 100, 90), trial(1, 98, 20)], 2),
    ],
    ids=["as fast and loses less", "loses less but is slower", "is the fastest and loses least"],
)
def test_of_settings_that_are_as_fast_the_one_with_the_best_worst_case_is_recommended(
    trials: list[Trial], threads: int
) -> None:
    assert recommended(trials).settings.threads == threads


def test_the_steadiest_has_the_best_worst_case_whatever_it_does_alone() -> None:
    assert steadiest([trial(2, 100, 20), trial(1, 50, 49)]).settings.threads == 1


def test_float32_trials_rank_alike(tried: Tried) -> None:
    exact = [each for each, _ in tried if isinstance(each, Trial) and each.settings.dtype == "float32"]
    assert len(exact) > 1
    assert all(trial.largest_difference < 1e-4 and trial.same_top == 1 for trial in exact)


def test_a_model_that_can_not_be_had_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="can't be loaded"):
        list(tuner(tmp_path, tmp_path, LOAD).outcomes())
