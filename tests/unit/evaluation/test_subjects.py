"""Which rerankers are compared."""

from pathlib import Path

import pytest

from tests.fakes.model import save_model
from worker.errors import FatalError
from worker.evaluation.subjects import subjects
from worker.models.resolve import ResolvedModel
from worker.settings import RerankSettings, Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny", outputs=1)


@pytest.fixture
def settings(folder: Path) -> Settings:
    return Settings(models="offline", rerank=RerankSettings(model=str(folder), max_length=64))


def test_without_a_name_the_configured_one_is_evaluated(settings: Settings, folder: Path) -> None:
    [subject] = subjects(settings, [], [], cosine=False, configured=True)
    assert isinstance(subject.model, ResolvedModel)
    assert subject.model.path == folder
    assert subject.settings.rerank == settings.rerank
    assert subjects(settings, [], [], cosine=False, configured=False) == []


def test_each_model_is_run_with_each_backend(settings: Settings, folder: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", outputs=1)
    made = subjects(settings, [str(folder), str(other)], ["torch", "onnx:int8"], cosine=False, configured=True)
    run = [(each.settings.rerank.model, each.settings.rerank.backend, each.settings.rerank.dtype) for each in made]
    assert run == [
        (str(folder), "torch", "auto"),
        (str(folder), "onnx", "int8"),
        (str(other), "torch", "auto"),
        (str(other), "onnx", "int8"),
    ]
    assert [each.label for each in made] == [" (torch)", " (onnx:int8)"] * 2
    assert {each.settings.rerank.max_length for each in made} == {64}


def test_an_endpoint_has_its_model_elsewhere() -> None:
    remote = Settings(rerank=RerankSettings(model="theirs", remote_url="http://reranker.test/v2/rerank"))
    [subject] = subjects(remote, [], [], cosine=False, configured=True)
    assert subject.model == "http://reranker.test/v2/rerank"
    with pytest.raises(FatalError, match="--backend is about a model in this process"):
        subjects(remote, [], ["onnx"], cosine=False, configured=True)


@pytest.mark.parametrize("backend", ["tensorrt", "torch:int3"])
def test_an_unknown_backend_is_told(settings: Settings, backend: str) -> None:
    with pytest.raises(FatalError, match=f"--backend {backend} is none"):
        subjects(settings, [], [backend], cosine=False, configured=True)


def test_a_combination_that_can_not_work_is_told_before_anything_is_scored(settings: Settings) -> None:
    with pytest.raises(FatalError, match="int8"):
        subjects(settings, [], ["torch:int8"], cosine=False, configured=True)


def test_a_model_that_is_not_to_be_had_is_told_before_anything_is_scored(settings: Settings) -> None:
    with pytest.raises(FatalError, match="nobody/nothing"):
        subjects(settings, ["nobody/nothing"], [], cosine=False, configured=True)
