"""What a processor computes packed batches with: oneDNN's prepacked products, and attention run by run.

The weights are laid out once for the processor, with the residual, and the activation where that is fast, in the
product's epilogue; attention takes neighbouring texts of one length together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from worker.rerank.backends.device import CPU, suited
from worker.rerank.backends.packed import Inputs, joined
from worker.rerank.pairs.batch import FlatBatch

# A batch's rows are filled up to a multiple of this. oneDNN keeps what it made for the last thousand shapes: with
# another number of rows in every batch that came to 650 MB.
ROWS = 16

# Rows of a product that oneDNN lays the weights out for; others run with them all the same.
TYPICAL_ROWS = 2_048


def cpu_packs() -> bool:
    """Whether this torch has the operators."""
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


class CpuOperators:
    """Implements ``Operators``."""

    device = CPU
    batches = suited(CPU, padded=False)

    def linear(self, *layers: nn.Linear) -> "_PrepackedLinear":
        """Lay out the weights for this processor; see ``Operators``."""
        return _PrepackedLinear(*joined(layers))

    def inputs(self, batch: FlatBatch, heads: int, first_position: int) -> Inputs:
        """Fill the rows up to a multiple of ``ROWS``; see ``Operators``."""
        filler = (0, -len(batch.ids) % ROWS)
        ids, types, places = (np.pad(each, filler) for each in (batch.ids, batch.types, batch.places))
        return Inputs(
            torch.from_numpy(ids),
            torch.from_numpy(types),
            torch.from_numpy(places + first_position),
            torch.from_numpy(batch.starts[:-1]),
            _AttentionByRuns(batch.lengths.tolist(), heads),
        )


class _PrepackedLinear:
    """Implements ``Linear``. The operators are those that ``torch.compile`` emits when it freezes."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._bias = bias
        # Without AVX-512 oneDNN's own erf is slow: within the product it took 7 ms of 25, in a pass of its own 2 of 20.
        self._gelu_within = bool(torch.cpu.get_capabilities().get("avx512_f"))
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)  # noqa: SLF001 - as above

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self._run(rows, "none")

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        if self._gelu_within:
            return self._run(rows, "gelu")
        result: torch.Tensor = torch.ops.aten.gelu_(self._run(rows, "none"))
        return result

    def plus(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(  # noqa: SLF001 - as above
            rows, residual, self._weight, self._bias, "add"
        )
        return result

    def _run(self, rows: torch.Tensor, activation: str) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - as above
            rows, self._weight, self._bias, activation, [], "none"
        )
        return result


class _AttentionByRuns:
    """Implements ``Attention``: neighbouring texts of one length, a run, are a rectangle without padding."""

    def __init__(self, lengths: Sequence[int], heads: int) -> None:
        self._heads = heads
        self._runs = _runs(lengths)
        self._texts = len(lengths)

    def all_tokens(self, query_key_value: torch.Tensor) -> torch.Tensor:
        attended = query_key_value.new_empty(len(query_key_value), query_key_value.shape[1] // 3)
        attended[self._runs[-1].stop :] = 0
        for run in self._runs:
            query, key, value = self._by_head(query_key_value[run.start : run.stop], run, parts=3)
            mixed = functional.scaled_dot_product_attention(query, key, value)
            self._by_head(attended[run.start : run.stop], run, parts=1)[0].copy_(mixed)
        return attended

    def first_tokens(self, query: torch.Tensor, key_value: torch.Tensor) -> torch.Tensor:
        queries = query.view(self._texts, self._heads, 1, -1)
        attended = torch.empty_like(queries)
        begin = 0
        for run in self._runs:
            key, value = self._by_head(key_value[run.start : run.stop], run, parts=2)
            mine = slice(begin, begin + run.texts)
            attended[mine] = functional.scaled_dot_product_attention(queries[mine], key, value)
            begin += run.texts
        return attended.flatten(1)

    def _by_head(self, rows: torch.Tensor, run: "_Run", *, parts: int) -> torch.Tensor:
        """View (tokens, parts * hidden) as (parts, texts, heads, tokens of a text, dimensions of a head)."""
        return rows.view(run.texts, run.length, parts, self._heads, -1).permute(2, 0, 3, 1, 4)


@dataclass(frozen=True, slots=True)
class _Run:
    """Texts of one length, one behind the other."""

    start: int
    texts: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.texts * self.length


def _runs(lengths: Sequence[int]) -> list[_Run]:
    runs: list[_Run] = []
    start = 0
    for length, group in groupby(lengths):
        runs.append(_Run(start, len(list(group)), length))
        start = runs[-1].stop
    return runs
