"""How fast this machine multiplies matrices of the model's shapes: the limit of every scorer, measured beside them.

One product is a layer's linear ones, (tokens x hidden) by the weights of attention and of the feed-forward network,
in every way at hand; the fastest of a precision is its limit.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from worker.rerank.backends.device import HALF_PRECISION, fast_on_cpu

REPEATS = 5
# A full batch: more makes a GPU no faster, and fewer would leave it idle.
TOKENS = {"cpu": 4_096, "cuda": 16_384}

Product = Callable[[], object]


def rates(config: Any, device: str) -> dict[str, dict[str, float]]:
    """Return FLOP/s by precision and way, the best of some repeats each."""
    with torch.inference_mode():
        return {
            precision: {name: _rate(products, config, device) for name, products in ways.items()}
            for precision, ways in _ways(config, device).items()
        }


def limit(measured: dict[str, dict[str, float]], precision: str) -> float | None:
    """Return the fastest way's rate; None for a precision that was not measured."""
    return max(measured.get(precision, {}).values(), default=None)


def tokens_of(device: str) -> int:
    return TOKENS[device.partition(":")[0]]


def _shapes(config: Any) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of a layer's linear products."""
    hidden, inner = config.hidden_size, config.intermediate_size
    return [*[(hidden, hidden)] * 4, (hidden, inner), (inner, hidden)]


def _ways(config: Any, device: str) -> dict[str, dict[str, list[Product]]]:
    shapes = _shapes(config)
    if device.startswith("cuda"):
        dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
        return {name: {"mm": [_mm(shape, device, dtype) for shape in shapes]} for name, dtype in dtypes.items()}
    ways: dict[str, dict[str, list[Product]]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if name in HALF_PRECISION and not fast_on_cpu(name):
            # The worker refuses it there too, and some of these products can't even be made.
            continue
        ways[name] = {"mm": [_mm(shape, device, dtype) for shape in shapes]}
        if torch.backends.mkldnn.is_available():
            ways[name]["onednn_prepacked"] = [_prepacked(shape, dtype) for shape in shapes]
    ways["int8"] = {"dynamic": [_dynamic(shape) for shape in shapes]}
    return ways


def _mm(shape: tuple[int, int], device: str, dtype: torch.dtype) -> Product:
    inputs = torch.randn(tokens_of(device), shape[0], device=device, dtype=dtype)
    weights = torch.randn(shape[1], shape[0], device=device, dtype=dtype).t()
    return lambda: torch.mm(inputs, weights)


def _prepacked(shape: tuple[int, int], dtype: torch.dtype) -> Product:
    tokens = tokens_of("cpu")
    inputs = torch.randn(tokens, shape[0], dtype=dtype)
    weights = torch.ops.mkldnn._reorder_linear_weight(torch.randn(shape[1], shape[0], dtype=dtype), tokens)  # noqa: SLF001
    bias = torch.zeros(shape[1], dtype=dtype)
    return lambda: torch.ops.mkldnn._linear_pointwise(inputs, weights, bias, "none", [], "")  # noqa: SLF001


def _dynamic(shape: tuple[int, int]) -> Product:
    """Quantise the inputs, multiply, and give floats: what a dynamically quantised linear layer costs."""
    packed = torch.ops.quantized.linear_prepack(
        torch.quantize_per_tensor(torch.randn(shape[1], shape[0]), 0.02, 0, torch.qint8), torch.zeros(shape[1])
    )
    inputs = torch.randn(tokens_of("cpu"), shape[0])
    return lambda: torch.ops.quantized.linear_dynamic(inputs, packed, reduce_range=False)


def _rate(products: list[Product], config: Any, device: str) -> float:
    flops = sum(2 * tokens_of(device) * inputs * outputs for inputs, outputs in _shapes(config))
    return flops / min(_seconds(products, device) for _ in range(REPEATS))


def _seconds(products: list[Product], device: str) -> float:
    synchronise(device)
    begun_s = time.perf_counter()
    for product in products:
        product()
    synchronise(device)
    return time.perf_counter() - begun_s


def synchronise(device: str) -> None:
    """Wait for what a GPU still has to do: its calls return before it is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
