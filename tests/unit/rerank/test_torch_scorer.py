"""The scorer against plain sentence-transformers, on a model with random weights."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from worker.errors import FatalError, TransientError
from worker.rerank.torch_scorer import TorchScorer, choose_device, choose_dtype
from worker.settings import RerankSettings

QUERY = "capital france"
DOCUMENTS = ["paris capital", "kafka consumer groups share work " * 4, "debezium mysql permissions", "a"]
SETTINGS = RerankSettings(device="cpu", threads=1, max_length=64)


@pytest.fixture(scope="module")
def scorer(model_folder: Path) -> TorchScorer:
    return TorchScorer(model_folder, "random", SETTINGS)


def reference(model_folder: Path, pairs: list[tuple[str, str]]) -> list[float]:
    model = CrossEncoder(str(model_folder), device="cpu")
    return [float(score) for score in model.predict(pairs, activation_fn=torch.nn.Identity())]


def test_scores_are_those_of_sentence_transformers(scorer: TorchScorer, model_folder: Path) -> None:
    scores = scorer.score(scorer.encode(QUERY, DOCUMENTS))
    assert scores == pytest.approx(reference(model_folder, [(QUERY, document) for document in DOCUMENTS]), abs=1e-4)
    assert len({round(score, 3) for score in scores}) == len(DOCUMENTS)


def test_a_score_does_not_depend_on_its_company(scorer: TorchScorer) -> None:
    pairs = scorer.encode(QUERY, DOCUMENTS)
    alone = [scorer.score([pair])[0] for pair in pairs]
    assert scorer.score(pairs) == pytest.approx(alone, abs=1e-4)
    assert scorer.score(pairs[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


def test_a_long_document_is_cut_and_the_query_is_not(scorer: TorchScorer) -> None:
    query_ids = scorer.encode(QUERY, ["a"])[0].input_ids[:-2]
    [pair] = scorer.encode(QUERY, ["kafka " * 500])
    assert pair.tokens == 64
    assert pair.input_ids[: len(query_ids)] == query_ids


def test_a_query_that_fills_the_window_leaves_room_for_the_document(scorer: TorchScorer) -> None:
    pairs = scorer.encode("paris " * 500, ["kafka", "debezium"])
    assert all(pair.tokens <= 64 for pair in pairs)
    first, second = scorer.score(pairs)
    assert first != second


def test_no_model_score_that_is_not_a_number_gets_out(scorer: TorchScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        bias = scorer._model.classifier.bias
        monkeypatch.setattr(bias, "data", torch.full_like(bias, float("nan")))
    with pytest.raises(TransientError, match="not a number"):
        scorer.score(scorer.encode(QUERY, DOCUMENTS))


def test_a_model_with_several_outputs_is_no_reranker(three_output_folder: Path) -> None:
    with pytest.raises(FatalError, match="3 outputs"):
        TorchScorer(three_output_folder, "classifier", SETTINGS)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="can't be loaded"):
        TorchScorer(tmp_path, "nothing", SETTINGS)


def test_half_precision_on_a_cpu_is_refused_with_what_to_set() -> None:
    with pytest.raises(FatalError, match="set `auto` or `float32`"):
        choose_dtype("float16", torch.device("cpu"))
    assert choose_dtype("auto", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.float16


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_a_device_this_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(FatalError, match="not on this machine"):
        choose_device(name)
