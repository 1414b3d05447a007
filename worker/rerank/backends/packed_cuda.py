"""What a GPU computes packed batches with: cuBLAS, and the flash kernel for texts of many lengths.

One transfer in, one out. The kernel takes half precision alone and GPUs from Ampere on; others get padded batches.
"""

from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from worker.rerank.backends.device import HALF_PRECISION, suited
from worker.rerank.backends.packed import Inputs, joined
from worker.rerank.pairs.batch import FlatBatch

AMPERE = (8, 0)


def cuda_packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the flash kernel runs on this device in this precision."""
    return (
        device.type == "cuda"
        and dtype in HALF_PRECISION.values()
        and torch.cuda.get_device_capability(device) >= AMPERE
    )


class CudaOperators:
    """Implements ``Operators``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.batches = suited(device, padded=False)

    def linear(self, *layers: nn.Linear) -> "_FusedLinear":
        """Keep the weights as they are; see ``Operators``."""
        return _FusedLinear(*joined(layers))

    def inputs(self, batch: FlatBatch, heads: int, first_position: int) -> Inputs:
        """Copy everything at once, from pinned memory, while the device still works; see ``Operators``."""
        parts = (batch.ids, batch.types, batch.places + first_position, batch.starts)
        host = torch.empty(sum(map(len, parts)), dtype=torch.int32, pin_memory=True)
        np.concatenate(parts, out=host.numpy())
        return on_device(host.to(self.device, non_blocking=True), batch, heads)


def on_device(flat: torch.Tensor, batch: FlatBatch, heads: int) -> Inputs:
    """Return a batch whose ids, types, positions and starts are ``flat``, one behind the other."""
    tokens = len(batch.ids)
    ids, types, positions, starts = torch.split(flat, [tokens, tokens, tokens, len(batch.starts)])
    return Inputs(ids, types, positions, starts[:-1], _VarlenAttention(starts, batch.longest, heads))


class _FusedLinear:
    """Implements ``Linear``: the bias, or the residual, is added in the product's epilogue."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return functional.linear(rows, self._weight, self._bias)

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        # cuBLAS has an epilogue for the GELU by tanh alone, which is another function.
        return functional.gelu(self(rows))

    def plus(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self(rows).add_(residual)


class _VarlenAttention:
    """Implements ``Attention`` by the flash kernel."""

    def __init__(self, starts: torch.Tensor, longest: int, heads: int) -> None:
        self._starts = starts
        self._longest = longest
        self._heads = heads

    def all_tokens(self, query_key_value: torch.Tensor) -> torch.Tensor:
        query, key, value = self._by_head(query_key_value, parts=3)
        return self._attend(query, key, value, self._starts, self._longest)

    def first_tokens(self, query: torch.Tensor, key_value: torch.Tensor) -> torch.Tensor:
        key, value = self._by_head(key_value, parts=2)
        # One query a text: the first query begins at 0, the next at 1.
        each = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
        return self._attend(query.view(len(query), self._heads, -1), key, value, each, 1)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_starts: torch.Tensor, longest: int
    ) -> torch.Tensor:
        attended = varlen_attn(
            query, key, value, query_starts, self._starts, longest, self._longest, **_independent_of_company()
        )
        assert isinstance(attended, torch.Tensor)  # noqa: S101 - nothing else was asked for
        return attended.flatten(1)

    def _by_head(self, rows: torch.Tensor, *, parts: int) -> tuple[torch.Tensor, ...]:
        """View (rows, parts * hidden) as so many (rows, heads, dimensions of a head)."""
        return rows.view(len(rows), parts, self._heads, -1).unbind(1)


@cache
def _independent_of_company() -> dict[str, Any]:
    """Return what keeps the kernel from splitting a text's keys by the longest of its batch, where it can be said."""
    return {"num_splits": 1} if "num_splits" in signature(varlen_attn).parameters else {}
