"""The backends that run an export, against plain sentence-transformers, on a model with random weights."""

import shutil
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from transformers import (
    BertForSequenceClassification,
    BertTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from worker.errors import FatalError
from worker.rerank.backends.export import exported
from worker.rerank.backends.int8 import require_fast_int8
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings

BACKENDS = ("onnx", "openvino")
QUERY = "capital france"
DOCUMENTS = ["paris capital", "kafka consumer groups share work " * 4, "debezium mysql permissions", "a", ""]
# The random model's logits spread over three. A pair's int8 logit may move with its batch only by what the runtime's
# fp32 steps differ in other shapes, where that tips a rounding.
INT8_TOLERANCE = 0.3
INT8_COMPANY_TOLERANCE = 0.05


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def needs_fast_int8() -> None:
    try:
        require_fast_int8()
    except FatalError as error:
        pytest.skip(str(error))


def a_scorer(folder: Path, cache_dir: Path, backend: str, **settings: Any) -> CrossEncoderScorer:
    rerank = RerankSettings.model_validate({"backend": backend, "threads": 1, "max_length": 64, **settings})
    return CrossEncoderScorer(folder, "random", rerank, cache_dir)


def predicted(folder: Path, documents: list[str]) -> list[float]:
    # Here, not above: it takes seconds to import, and another lane need not wait for it.
    from sentence_transformers import CrossEncoder  # noqa: PLC0415

    reference = CrossEncoder(str(folder), device="cpu", max_length=64)
    pairs = [(QUERY, document) for document in documents]
    return [float(score) for score in reference.predict(pairs, activation_fn=torch.nn.Identity())]


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_fp32_a_pair_scores_as_in_sentence_transformers_whatever_its_company(
    model_folder: Path, cache_dir: Path, backend: str
) -> None:
    scorer = a_scorer(model_folder, cache_dir, backend)
    expected = predicted(model_folder, DOCUMENTS)
    pairs = scorer.encode(QUERY, DOCUMENTS)
    assert scorer.score(pairs) == pytest.approx(expected, abs=1e-4)
    assert scorer.score(pairs[::-1]) == pytest.approx(expected[::-1], abs=1e-4)
    assert [scorer.score([pair])[0] for pair in pairs] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_int8_a_pair_scores_nearly_the_same_whatever_its_company(
    model_folder: Path, cache_dir: Path, backend: str
) -> None:
    needs_fast_int8()
    scorer = a_scorer(model_folder, cache_dir, backend, dtype="int8")
    expected = predicted(model_folder, DOCUMENTS)
    pairs = scorer.encode(QUERY, DOCUMENTS)
    together = scorer.score(pairs)
    assert together == pytest.approx(expected, abs=INT8_TOLERANCE)
    assert together != pytest.approx(expected, abs=1e-4), "it is not fp32 after all"
    assert [scorer.score([pair])[0] for pair in pairs] == pytest.approx(together, abs=INT8_COMPANY_TOLERANCE)


@pytest.fixture(scope="module")
def roberta_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without token types."""
    folder = tmp_path_factory.mktemp("roberta") / "model"
    names = ["input_ids", "attention_mask"]
    BertTokenizerFast.from_pretrained(model_folder, model_input_names=names).save_pretrained(folder)
    torch.manual_seed(7)
    config = RobertaConfig(
        vocab_size=66,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=1,
        num_labels=1,
        pad_token_id=0,  # the tokenizer's; positions are counted by it
        initializer_range=0.2,
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_without_token_types_is_exported_too(
    roberta_folder: Path, cache_dir: Path, backend: str, dtype: str
) -> None:
    if dtype == "int8":
        needs_fast_int8()
    scorer = a_scorer(roberta_folder, cache_dir, backend, dtype=dtype)
    tolerance = 1e-4 if dtype == "float32" else INT8_TOLERANCE
    expected = predicted(roberta_folder, DOCUMENTS)
    assert scorer.score(scorer.encode(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=tolerance)


def test_the_backends_share_an_export_and_a_damaged_one_is_made_again(model_folder: Path, tmp_path: Path) -> None:
    for backend in BACKENDS:
        a_scorer(model_folder, tmp_path, backend)
    [file] = (tmp_path / "models").glob("*/model.onnx")
    written = file.stat().st_mtime_ns
    assert exported(model_folder, tmp_path, "float32") == file
    assert file.stat().st_mtime_ns == written, "what is whole is only read"
    file.write_bytes(b"cut off")
    assert a_scorer(model_folder, tmp_path, "onnx").score
    assert file.stat().st_size > 1_000
    assert {path.name for path in file.parents[1].iterdir()} == {file.parent.name, "lock"}


def test_other_weights_have_an_export_of_their_own(model_folder: Path, cache_dir: Path, tmp_path: Path) -> None:
    before = exported(model_folder, cache_dir, "float32")
    folder = Path(shutil.copytree(model_folder, tmp_path / "trained-on"))
    model = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(folder)
    assert exported(folder, cache_dir, "float32") != before


def test_an_export_that_scores_unlike_torch_is_refused_and_not_kept(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = torch.onnx.export

    def with_other_attention(model: torch.nn.Module, inputs: Any, file: str, **options: Any) -> None:
        export(model, inputs, file, **options)
        graph = onnx.load(file)
        for node in graph.graph.node:
            if node.op_type == "Softmax":
                node.op_type = "Sigmoid"
                del node.attribute[:]
        onnx.save(graph, file)

    monkeypatch.setattr(torch.onnx, "export", with_other_attention)
    with pytest.raises(FatalError, match=r"a bert model scores .* set RERANK_WORKER_RERANK__BACKEND=torch"):
        a_scorer(model_folder, tmp_path, "onnx")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lock"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_not_installed_is_fatal_and_says_what_to_install(
    model_folder: Path, cache_dir: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"onnx": "onnxruntime", "openvino": "openvino"}[backend]
    for name in ("onnx", "openvino", "export"):
        monkeypatch.delitem(sys.modules, f"worker.rerank.backends.{name}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    with pytest.raises(FatalError, match=rf"needs {module}.* `pip install 'rerank-worker\[{backend}\]'`") as refused:
        a_scorer(model_folder, cache_dir, backend)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_is_refused_where_the_processor_would_saturate(
    model_folder: Path, cache_dir: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", "avx2": True})
    with pytest.raises(FatalError, match=r"int8 needs a processor with VNNI .*; set `auto` or `float32`$"):
        a_scorer(model_folder, cache_dir, backend, dtype="int8")
