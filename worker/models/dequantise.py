"""The weights of an int8 ONNX file as float32, under the names they have in transformers.

ONNX Runtime's dynamic quantisation keeps ``X`` as ``X_quantized``, ``X_scale`` and ``X_zero_point``; what is no matrix
stays float32. Run as it is such a file rounds the activations of a whole batch by one scale, so that a pair's logit
depends on its company; the weights alone don't.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

QUANTIZED = "_quantized"

Floats = NDArray[np.float32]


def dequantised(file: Path) -> dict[str, Floats]:
    """Return every weight by its name, linear ones (outputs, inputs) as torch has them. Reads the file whole."""
    graph = onnx.load(file).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # A matrix that was transposed for ONNX has lost its name: that of the node that multiplies by it is its layer's.
    multipliers = {node.input[1]: node.name for node in graph.node if node.op_type == "MatMulInteger"}
    weights = {}
    for name, values in stored.items():
        if name in multipliers:
            weights[_layer(multipliers[name]) + ".weight"] = np.ascontiguousarray(_floats(stored, name).T)
        elif name.endswith(QUANTIZED):
            weights[name.removesuffix(QUANTIZED)] = _floats(stored, name)
        elif not name.endswith(("_scale", "_zero_point")):
            weights[name] = values
    return weights


def _floats(stored: dict[str, NDArray[np.generic]], name: str) -> Floats:
    """Return ``(w - zero point) * scale``; either is one number, or one for each column."""
    base = name.removesuffix(QUANTIZED)
    quantized, zero_point, scale = (
        stored[each].astype(np.float32) for each in (name, f"{base}_zero_point", f"{base}_scale")
    )
    floats: Floats = (quantized - zero_point) * scale
    return floats


def _layer(node: str) -> str:
    """Return ``bert.encoder.layer.0.output.dense`` of ``/bert/encoder/layer.0/output/dense/MatMul_quant``."""
    return node.strip("/").rpartition("/")[0].replace("/", ".")
