"""A BERT cross-encoder without padding on a CPU: the tokens of a batch in one row, and only what reaches the score.

Every matrix product runs over the tokens there are, and none over padding; attention runs text by text, texts of one
length together. The weights are laid out once for the processor (oneDNN's prepacked format), with the residual, and the
activation where that is fast, in the product's epilogue. In the last layer queries, output and feed-forward are
computed for the first token of each text alone where nothing else is read: exact, and about a seventh of the arithmetic
of six layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig

from worker.rerank.backends.device import CPU, inference, moved, suited
from worker.rerank.pairs.tokenizer import EncodedPair

# Where rows are counted from: RoBERTa's positions begin behind the id of its padding.
FAMILIES = ("bert", "roberta", "xlm-roberta")

# A batch's rows are filled up to a multiple of this. oneDNN keeps what it made for the last thousand shapes: with
# another number of rows in every batch that came to 650 MB.
ROWS = 16

# Rows of a product that oneDNN lays the weights out for; others run with them all the same.
TYPICAL_ROWS = 2_048

Norm = tuple[torch.Tensor, torch.Tensor]


def can_pack(config: PreTrainedConfig, device: torch.device) -> bool:
    """Whether ``PackedEncoder`` computes what transformers does for this model, on this device."""
    return (
        device.type == "cpu"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and config.model_type in FAMILIES
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
    )


class PackedBackend:
    """Implements ``Backend`` for models for which ``can_pack`` holds. Its cost is a pair's own tokens, no padding."""

    def __init__(self, model: Any) -> None:
        """Take over a loaded ``...ForSequenceClassification`` with one output."""
        self.batches = suited(CPU, padded=False)
        self._encoder = PackedEncoder(model.base_model)
        pooler = getattr(model.base_model, "pooler", None)
        head = model.classifier
        # BERT pools inside the encoder and RoBERTa inside its head: the same two layers.
        self._dense: nn.Linear = head.dense if pooler is None else pooler.dense
        self._output: nn.Linear = head.out_proj if pooler is None else head

    def logits(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Run one forward pass over the pairs' tokens; see ``Backend``."""
        with inference(CPU):
            first = self._encoder.first_tokens(
                [pair.input_ids for pair in pairs], [pair.token_type_ids for pair in pairs]
            )
            return moved(self._output(torch.tanh(self._dense(first)))[:, 0])


class PackedEncoder:
    """The encoder of a model for which ``can_pack`` holds, in its dtype. Not thread-safe."""

    def __init__(self, encoder: Any) -> None:
        """Take over the weights of a ``BertModel`` or ``(XLM)RobertaModel``, laid out anew."""
        config = encoder.config
        self._heads = int(config.num_attention_heads)
        self._eps = float(config.layer_norm_eps)
        self._first_position = 0 if config.model_type == "bert" else int(config.pad_token_id) + 1
        embeddings = encoder.embeddings
        self._words = _frozen(embeddings.word_embeddings.weight)
        self._positions = _frozen(embeddings.position_embeddings.weight)
        self._types = _frozen(embeddings.token_type_embeddings.weight)
        self._norm = _norm(embeddings.LayerNorm)
        self._layers = [_Layer.of(layer) for layer in encoder.encoder.layer]

    def first_tokens(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the last hidden state of each row's first token: (rows, hidden)."""
        order, runs, hidden = self._embed(rows, types)
        *layers, last = self._layers
        for layer in layers:
            hidden = self._finish(layer, hidden, self._attend_all(layer, hidden, runs))
        first = torch.cat([torch.arange(run.start, run.stop, run.length) for run in runs])
        hidden = self._finish(last, hidden[first], self._attend_first(last, hidden, first, runs))
        return _unsorted(hidden, order)

    def all_tokens(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the last hidden states of each row: one (tokens, hidden) per row."""
        order, runs, hidden = self._embed(rows, types)
        for layer in self._layers:
            hidden = self._finish(layer, hidden, self._attend_all(layer, hidden, runs))
        lengths = [len(rows[row]) for row in order]
        states = torch.split(hidden[: sum(lengths)], lengths)
        return [state for _, state in sorted(zip(order, states, strict=True), key=lambda each: each[0])]

    def _embed(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]
    ) -> "tuple[list[int], list[_Run], torch.Tensor]":
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        runs = _runs([len(rows[row]) for row in order])
        ids = torch.tensor([token for row in order for token in rows[row]])
        kinds = torch.tensor([kind for row in order for kind in types[row]])
        positions = torch.cat([torch.arange(run.length).repeat(run.texts) for run in runs]) + self._first_position
        hidden = self._words[ids] + self._positions[positions] + self._types[kinds]
        filled = functional.pad(hidden, (0, 0, 0, -len(hidden) % ROWS))
        return order, runs, self._normalised(filled, self._norm)

    def _attend_all(self, layer: "_Layer", hidden: torch.Tensor, runs: "Sequence[_Run]") -> torch.Tensor:
        attended = torch.empty_like(hidden)
        attended[runs[-1].stop :] = 0
        projected = layer.query_key_value(hidden)
        for run in runs:
            query, key, value = self._by_head(projected[run.start : run.stop], run, parts=3)
            mixed = functional.scaled_dot_product_attention(query, key, value)
            self._by_head(attended[run.start : run.stop], run, parts=1)[0].copy_(mixed)
        return attended

    def _attend_first(
        self, layer: "_Layer", hidden: torch.Tensor, first: torch.Tensor, runs: "Sequence[_Run]"
    ) -> torch.Tensor:
        queries = layer.query(hidden[first]).view(len(first), self._heads, 1, -1)
        attended = torch.empty_like(queries)
        projected = layer.key_value(hidden)
        begin = 0
        for run in runs:
            key, value = self._by_head(projected[run.start : run.stop], run, parts=2)
            mine = slice(begin, begin + run.texts)
            attended[mine] = functional.scaled_dot_product_attention(queries[mine], key, value)
            begin += run.texts
        return attended.flatten(1)

    def _by_head(self, rows: torch.Tensor, run: "_Run", *, parts: int) -> torch.Tensor:
        """View (tokens, parts * hidden) as (parts, texts, heads, tokens of a text, dimensions of a head)."""
        return rows.view(run.texts, run.length, parts, self._heads, -1).permute(2, 0, 3, 1, 4)

    def _finish(self, layer: "_Layer", hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        hidden = self._normalised(layer.output.plus(attended, hidden), layer.attention_norm)
        return self._normalised(layer.down.plus(layer.up.gelu(hidden), hidden), layer.output_norm)

    def _normalised(self, hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
        return functional.layer_norm(hidden, hidden.shape[1:], *norm, self._eps)


class _Linear:
    """A linear layer with prepacked weights. The operators are those that ``torch.compile`` emits when it freezes."""

    def __init__(self, *layers: nn.Linear) -> None:
        """Lay out the weights of layers that read the same input, as one."""
        weight = torch.cat([_frozen(layer.weight) for layer in layers])
        self._bias = torch.cat([_frozen(layer.bias) for layer in layers])
        # Without AVX-512 oneDNN's own erf is slow: within the product it took 7 ms of 25, in a pass of its own 2 of 20.
        self._gelu_within = bool(torch.cpu.get_capabilities().get("avx512_f"))
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)  # noqa: SLF001 - as above

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self._run(rows, "none")

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the layer, then the exact GELU."""
        if self._gelu_within:
            return self._run(rows, "gelu")
        result: torch.Tensor = torch.ops.aten.gelu_(self._run(rows, "none"))
        return result

    def plus(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Apply the layer, then add the residual."""
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(  # noqa: SLF001 - as above
            rows, residual, self._weight, self._bias, "add"
        )
        return result

    def _run(self, rows: torch.Tensor, activation: str) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - as above
            rows, self._weight, self._bias, activation, [], "none"
        )
        return result


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: _Linear
    query: _Linear
    key_value: _Linear
    output: _Linear
    attention_norm: Norm
    up: _Linear
    down: _Linear
    output_norm: Norm

    @classmethod
    def of(cls, layer: Any) -> "_Layer":
        """Take over a ``BertLayer`` or ``(XLM)RobertaLayer``."""
        attention, projected = layer.attention, layer.attention.self
        return cls(
            _Linear(projected.query, projected.key, projected.value),
            _Linear(projected.query),
            _Linear(projected.key, projected.value),
            _Linear(attention.output.dense),
            _norm(attention.output.LayerNorm),
            _Linear(layer.intermediate.dense),
            _Linear(layer.output.dense),
            _norm(layer.output.LayerNorm),
        )


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


def _unsorted(rows: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    result = torch.empty_like(rows)
    result[torch.tensor(order)] = rows
    return result


def _norm(layer: nn.LayerNorm) -> Norm:
    return _frozen(layer.weight), _frozen(layer.bias)


def _frozen(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().contiguous()
