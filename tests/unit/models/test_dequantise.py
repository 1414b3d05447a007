"""What ONNX Runtime's own quantiser made of weights is read back to within half a step of it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from worker.models.dequantise import dequantised

HIDDEN, INNER, WORDS = 8, 12, 20
LAYER, NODE = "bert.encoder.layer.0.intermediate.dense", "/bert/encoder/layer.0/intermediate/dense"
DRAW = np.random.default_rng(7)
ORIGINALS = {
    "bert.embeddings.word_embeddings.weight": DRAW.normal(size=(WORDS, HIDDEN)).astype(np.float32),
    f"{LAYER}.weight": DRAW.normal(size=(INNER, HIDDEN)).astype(np.float32),
    f"{LAYER}.bias": DRAW.normal(size=INNER).astype(np.float32),
    "classifier.weight": DRAW.normal(size=(1, INNER)).astype(np.float32),
    "classifier.bias": DRAW.normal(size=1).astype(np.float32),
}
"""As torch names and lays them out: linear weights are (outputs, inputs)."""


def exported(folder: Path) -> Path:
    """Write a model as torch's exporter does: of a linear layer's matrix it keeps the transpose, without its name."""
    stored = {"onnx::MatMul_42" if name == f"{LAYER}.weight" else name: value for name, value in ORIGINALS.items()}
    stored["onnx::MatMul_42"] = np.ascontiguousarray(stored["onnx::MatMul_42"].T)
    words, weight, bias, head, head_bias = list(stored)
    nodes = [
        helper.make_node("Gather", [words, "ids"], ["embedded"], "/bert/embeddings/word_embeddings/Gather"),
        helper.make_node("MatMul", ["embedded", weight], ["product"], f"{NODE}/MatMul"),
        helper.make_node("Add", [bias, "product"], ["hidden"], f"{NODE}/Add"),
        helper.make_node("Gemm", ["hidden", head, head_bias], ["logits"], "/classifier/Gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", 1])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    return folder / "model.onnx"


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_every_weight_comes_back_under_its_name_and_within_half_a_step(
    tmp_path: Path, kind: QuantType, per_channel: bool
) -> None:
    quantised = tmp_path / "int8.onnx"
    quantize_dynamic(exported(tmp_path), quantised, weight_type=kind, per_channel=per_channel)
    weights = dequantised(quantised)
    assert weights.keys() == ORIGINALS.keys()
    for name, original in ORIGINALS.items():
        assert (weights[name].shape, weights[name].dtype) == (original.shape, np.float32)
        step = 0.0 if name.endswith("bias") else 2 * float(np.abs(original).max()) / 254
        assert np.abs(weights[name] - original).max() <= step / 2 * 1.01
