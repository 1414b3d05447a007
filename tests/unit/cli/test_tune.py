"""What `tune` says of what it measured."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from worker.cli.tune import tune
from worker.models import resolve as models
from worker.models.resolve import ResolvedModel
from worker.rerank import tune as tuning
from worker.rerank.tune import Refusal, Trial
from worker.settings import RerankSettings

Told = Callable[[Sequence[Trial | Refusal]], str]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Gives what is printed where these are the outcomes."""

    def told(outcomes: Sequence[Trial | Refusal]) -> str:
        class FakeTuner:
            def __init__(self, *_arguments: object, **_options: object) -> None: ...

            def outcomes(self) -> Iterator[Trial | Refusal]:
                return iter(outcomes)

        monkeypatch.setattr(tuning, "Tuner", FakeTuner)
        monkeypatch.setattr(models, "resolve", lambda *_: ResolvedModel("cross-encoder", "tiny", Path(), "folder"))
        tune(seconds=1)
        return capsys.readouterr().out

    return told


def trial(threads: int, alone: float, beside: float, dtype: str = "float32") -> Trial:
    settings = RerankSettings.model_validate({"threads": threads, "dtype": dtype})
    return Trial(settings, alone, beside, query_ms=1, largest_difference=0, same_top=1)


def test_a_recommendation_says_its_worst_case(told: Told) -> None:
    printed = told([trial(1, 54, 52), trial(2, 101, 90)])
    _, recommended = printed.split("fastest with the model's own scores")
    assert "RERANK_WORKER_RERANK__THREADS=2" in recommended
    assert "worst case, beside a busy process: 90 pairs/s, 101 alone" in recommended
    assert "steadier" not in recommended


def test_settings_that_lose_less_to_a_neighbour_are_told_beside_the_fastest(told: Told) -> None:
    printed = told([trial(1, 54, 52), trial(2, 101, 18)])
    assert "worst case, beside a busy process: 18 pairs/s, 101 alone" in printed
    _, steadier = printed.split("steadier, if other work shares the machine: 52 pairs/s, 54 alone, with")
    assert "RERANK_WORKER_RERANK__THREADS=1" in steadier


def test_what_is_alike_within_what_measurements_differ_by_is_not_told(told: Told) -> None:
    assert "steadier" not in told([trial(1, 54, 92), trial(2, 101, 90)])


def test_the_fastest_of_all_is_told_apart_from_the_fastest_with_the_models_own_scores(told: Told) -> None:
    printed = told([trial(2, 101, 90), trial(2, 180, 150, "bfloat16")])
    assert "beside a busy process: 90 pairs/s, 101 alone" in printed
    _, best = printed.split("fastest of all")
    assert "RERANK_WORKER_RERANK__DTYPE=bfloat16" in best
    assert "beside a busy process: 150 pairs/s, 180 alone" in best


def test_what_can_not_be_had_is_told_with_its_reason(told: Told) -> None:
    settings = RerankSettings(dtype="bfloat16")
    assert "not tried: torch bfloat16: needs another processor" in told(
        [trial(2, 101, 90), Refusal(settings, "needs another processor")]
    )
