"""The offline models, built for real, and where models come from when the hub is away."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from worker.errors import FatalError
from worker.local import offline_models
from worker.local.offline_models import GOLDEN_SCORES, cross_encoder_folder
from worker.models import ROLES, resolve
from worker.rerank.torch_scorer import TorchScorer
from worker.settings import RerankSettings, Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoder_folder(tmp_path_factory.mktemp("cache"))


def test_the_built_cross_encoder_gives_its_golden_scores_in_plain_sentence_transformers(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu", max_length=256)
    scores = model.predict([(query, document) for query, document, _ in GOLDEN_SCORES])
    assert list(scores) == pytest.approx([score for _, _, score in GOLDEN_SCORES], abs=1e-3)


def test_a_damaged_build_is_noticed_and_built_again(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert cross_encoder_folder(folder.parents[1]) == folder
    assert weights.read_bytes() == whole


def test_scores_equal_those_of_predict_whatever_the_batch(folder: Path) -> None:
    queries = ["capital of france", "What permissions does Debezium need on MySQL?"]
    documents = ["Paris.", "word " * 700, *(document for _, document, _ in GOLDEN_SCORES)]
    scorer = TorchScorer(folder, "offline", RerankSettings(device="cpu"))
    reference = CrossEncoder(str(folder), device="cpu")
    for query in queries:
        expected = reference.predict([(query, document) for document in documents], activation_fn=torch.nn.Identity())
        pairs = scorer.encode(query, documents)
        assert scorer.score(pairs) == pytest.approx(list(expected), abs=1e-4)
        assert [scorer.score([pair])[0] for pair in pairs] == pytest.approx(list(expected), abs=1e-4)


def test_every_role_resolves_offline(tmp_path: Path, cache_dir: Path) -> None:
    models = {role: resolve(role, Settings(models="offline", cache_dir=cache_dir)) for role in ROLES}
    assert all(model.path.exists() for model in models.values())
    assert all(model.source == "bundled" for model in models.values())
    assert models["embedding"].name == Settings().recall.embedding_model
    assert models["cross-encoder"].name == "rerank-worker/offline-cross-encoder-v1"
    assert models["cross-encoder"].prior_weight == 12.5


def test_without_a_hub_auto_takes_the_offline_models_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_dir: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("embedding", Settings(cache_dir=cache_dir)).source in {"bundled", "cache"}


def test_another_model_is_never_swapped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = Settings.model_validate({"rerank": {"model": "somebody/else"}})
    with pytest.raises(FatalError, match=r"somebody/else.*have an offline stand-in"):
        resolve("cross-encoder", settings)


def test_a_folder_is_taken_as_it_is(folder: Path) -> None:
    model = resolve("cross-encoder", Settings.model_validate({"rerank": {"model": str(folder)}}))
    assert (model.source, model.path, model.prior_weight) == ("folder", folder, 0.0)


def test_a_missing_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_models, "LLM_PACKAGE", "not-installed-anywhere")
    with pytest.raises(FatalError, match=r"rerank-worker\[llm\]"):
        resolve("llm", Settings(models="offline"))
