"""Weights and activations in int8, for processors that multiply those faster: two rewrites of an exported model.

Both quantise the weights of the linear layers per output channel and the activations per token, at run time: what a
token is rounded to does not depend on the other pairs of its batch, and nothing is calibrated. One scale for all tokens
does neither: measured at run time it moves a pair's logit by 0.4 with its batch, and calibrated it costs 0.014 nDCG@10.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import NodeProto
from onnx.helper import make_node, make_opsetid
from onnx.numpy_helper import from_array, to_array

from worker.errors import FatalError

LEVELS = 127
# Unsigned by signed is what every processor with these instructions has; without them the product of two saturates.
FAST_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
CONTRIB = "com.microsoft"


def require_fast_int8() -> None:
    """Raise FatalError on an x86 processor that is slower in int8, or wrong: without VNNI the sums saturate."""
    processor = torch.cpu.get_capabilities()
    if processor.get("architecture") == "x86_64" and not any(processor.get(name) for name in FAST_INT8):
        raise FatalError(
            "RERANK_WORKER_RERANK__DTYPE=int8 needs a processor with VNNI (AVX-512 VNNI, AVX-VNNI or AMX); "
            "set `auto` or `float32`"
        )


def weights_alone(model: onnx.ModelProto) -> None:
    """Store the weights as int8 with a scale per output channel; OpenVINO quantises the activations itself."""
    linear = _LinearLayers(model)
    nodes = []
    for node in model.graph.node:
        weight = linear.weight_of(node)
        if weight is not None:
            if f"{weight}.fp32" not in linear.made:
                linear.made.add(f"{weight}.fp32")
                inputs = [f"{weight}.int8", f"{weight}.scale"]
                nodes.append(make_node("DequantizeLinear", inputs, [f"{weight}.fp32"], axis=1))
            node.input[1] = f"{weight}.fp32"
        nodes.append(node)
    linear.replace_nodes(nodes)


def weights_and_tokens(model: onnx.ModelProto) -> None:
    """Multiply in int8 by nodes of ONNX Runtime's own, each token's activations with a scale and a least of its own.

    A token ``x`` is ``least + scale * q``, with ``q`` from 0 to 255, so its product with the weights ``W`` is
    ``least * sum(W) + scale * (q @ W)``. Around zero instead, half of the levels are lost on what an activation
    function lets through, and nDCG@10 on the sample questions with them (0.012).
    """
    linear = _LinearLayers(model)
    linear.add("int8.one", np.float32(1))
    linear.add("int8.step", np.float32(1 / np.iinfo(np.uint8).max))
    linear.add("int8.narrowest", np.float32(1e-12))
    linear.add("int8.zero", np.uint8(0))
    nodes = []
    for node in model.graph.node:
        weight = linear.weight_of(node)
        if weight is None:
            nodes.append(node)
            continue
        tokens, [product] = node.input[0], node.output
        if tokens not in linear.made:
            # Query, key and value multiply the same tokens: they are quantised once.
            linear.made.add(tokens)
            nodes.extend(_quantised(tokens))
        nodes.extend(_multiplied(tokens, weight, product))
    model.opset_import.append(make_opsetid(CONTRIB, 1))
    linear.replace_nodes(nodes)


def _quantised(tokens: str) -> Iterator[NodeProto]:
    """Yield what makes ``{tokens}.int8`` and, one per token, ``{tokens}.least`` and ``{tokens}.scale``."""
    yield make_node("ReduceMax", [tokens], [f"{tokens}.most"], axes=[-1], keepdims=1)
    yield make_node("ReduceMin", [tokens], [f"{tokens}.least"], axes=[-1], keepdims=1)
    yield make_node("Sub", [f"{tokens}.most", f"{tokens}.least"], [f"{tokens}.range"])
    yield make_node("Max", [f"{tokens}.range", "int8.narrowest"], [f"{tokens}.width"])
    yield make_node("Mul", [f"{tokens}.width", "int8.step"], [f"{tokens}.scale"])
    yield make_node("Sub", [tokens, f"{tokens}.least"], [f"{tokens}.above"])
    yield make_node("Div", [f"{tokens}.above", f"{tokens}.scale"], [f"{tokens}.levels"])
    yield make_node("QuantizeLinear", [f"{tokens}.levels", "int8.one", "int8.zero"], [f"{tokens}.int8"])


def _multiplied(tokens: str, weight: str, product: str) -> Iterator[NodeProto]:
    inputs = [f"{tokens}.int8", f"{weight}.int8", "int8.one", f"{weight}.scale", "int8.zero"]
    yield make_node("MatMulIntegerToFloat", inputs, [f"{product}.levels"], domain=CONTRIB)
    yield make_node("Mul", [f"{product}.levels", f"{tokens}.scale"], [f"{product}.scaled"])
    yield make_node("Mul", [f"{tokens}.least", f"{weight}.sum"], [f"{product}.offset"])
    yield make_node("Add", [f"{product}.scaled", f"{product}.offset"], [product])


class _LinearLayers:
    """The products of a graph with a matrix of weights, which it quantises as they are asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._weights = {each.name: each for each in model.graph.initializer if len(each.dims) == 2}  # noqa: PLR2004
        self.made: set[str] = set()

    def weight_of(self, node: NodeProto) -> str | None:
        """Return the name of the weights a node multiplies by, quantised: ``.int8``, ``.scale``, ``.sum``."""
        if node.op_type != "MatMul" or node.input[1] not in self._weights:
            return None
        name = str(node.input[1])
        if name not in self.made:
            self.made.add(name)
            weight = to_array(self._weights[name])
            scale = np.maximum(np.abs(weight).max(axis=0) / LEVELS, np.finfo(np.float32).tiny).astype(np.float32)
            levels = np.rint(weight / scale).clip(-LEVELS, LEVELS).astype(np.int8)
            self.add(f"{name}.int8", levels)
            self.add(f"{name}.scale", scale)
            self.add(f"{name}.sum", levels.sum(axis=0, dtype=np.int64).astype(np.float32) * scale)
        return name

    def add(self, name: str, values: np.ndarray | np.generic) -> None:
        """Add a constant."""
        self._graph.initializer.append(from_array(np.asarray(values), name))

    def replace_nodes(self, nodes: list[NodeProto]) -> None:
        """Let these be the graph's nodes, without the constants that none of them reads."""
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [each for each in self._graph.initializer if each.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
