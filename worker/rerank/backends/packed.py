"""A BERT cross-encoder without padding: the tokens of a batch in one row, and only what reaches the score.

Every matrix product runs over the tokens there are, and none over padding; attention stays within each text. In the
last layer queries, output and feed-forward are computed for the first token of each text alone where nothing else is
read: exact, and about a seventh of the arithmetic of six layers. What a device multiplies and attends with is its
``Operators``: the order of the arithmetic is this file's on all of them.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig

from worker.rerank.backends.device import Batches, Pending, inference, pending
from worker.rerank.pairs.batch import FlatBatch

# Where rows are counted from: RoBERTa's positions begin behind the id of its padding.
FAMILIES = ("bert", "roberta", "xlm-roberta")

Norm = tuple[torch.Tensor, torch.Tensor]


def can_pack(config: PreTrainedConfig) -> bool:
    """Whether ``PackedEncoder`` computes what transformers does for this model."""
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
    )


class Linear(Protocol):
    """A linear layer: (rows, inputs) to (rows, outputs)."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        ...

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the layer, then the exact GELU."""
        ...

    def plus(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Apply the layer, then add the residual."""
        ...


class Attention(Protocol):
    """Attention of each text of one batch to itself."""

    def all_tokens(self, query_key_value: torch.Tensor) -> torch.Tensor:
        """Attend from every token: (rows, 3 * hidden) to (rows, hidden)."""
        ...

    def first_tokens(self, query: torch.Tensor, key_value: torch.Tensor) -> torch.Tensor:
        """Attend from each text's first token: (texts, hidden) and (rows, 2 * hidden) to (texts, hidden)."""
        ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch on its device, and the attention of its texts."""

    ids: torch.Tensor
    """(rows,): the tokens, and behind them what fills the rows up to a number that suits the device."""
    types: torch.Tensor
    positions: torch.Tensor
    first: torch.Tensor
    """(texts,): the row of each text's first token."""
    attention: Attention


class Operators(Protocol):
    """What a device computes with."""

    device: torch.device
    batches: Batches

    def linear(self, *layers: nn.Linear) -> Linear:
        """Take over the weights of layers that read the same input, as one."""
        ...

    def inputs(self, batch: FlatBatch, heads: int, first_position: int) -> Inputs:
        """Bring a batch to the device."""
        ...


class PackedBackend:
    """Implements ``Backend`` for models for which ``can_pack`` holds. Its cost is a pair's own tokens, no padding."""

    def __init__(self, model: Any, operators: Operators) -> None:
        """Take over a loaded ``...ForSequenceClassification`` with one output."""
        self.batches = operators.batches
        self._device = operators.device
        self._encoder = PackedEncoder(model.base_model, operators)
        pooler = getattr(model.base_model, "pooler", None)
        head = model.classifier
        # BERT pools inside the encoder and RoBERTa inside its head: the same two layers.
        self._dense: nn.Linear = head.dense if pooler is None else pooler.dense
        self._output: nn.Linear = head.out_proj if pooler is None else head

    def start(self, batch: FlatBatch) -> Pending:
        """Start one forward pass over the pairs' tokens; see ``Backend``."""
        with inference(self._device):
            first = self._encoder.first_tokens(batch)
            return pending(self._output(torch.tanh(self._dense(first)))[:, 0])


class PackedEncoder:
    """The encoder of a model for which ``can_pack`` holds, in its dtype. Not thread-safe."""

    def __init__(self, encoder: Any, operators: Operators) -> None:
        """Take over the weights of a ``BertModel`` or ``(XLM)RobertaModel``."""
        config = encoder.config
        self._operators = operators
        self._heads = int(config.num_attention_heads)
        self._eps = float(config.layer_norm_eps)
        self._first_position = 0 if config.model_type == "bert" else int(config.pad_token_id) + 1
        embeddings = encoder.embeddings
        self._words = _frozen(embeddings.word_embeddings.weight)
        self._positions = _frozen(embeddings.position_embeddings.weight)
        self._types = _frozen(embeddings.token_type_embeddings.weight)
        self._norm = _norm(embeddings.LayerNorm)
        self._layers = [_Layer.of(layer, operators) for layer in encoder.encoder.layer]

    def first_tokens(self, batch: FlatBatch) -> torch.Tensor:
        """Return the last hidden state of each text's first token: (texts, hidden)."""
        inputs, hidden = self._embed(batch)
        *layers, last = self._layers
        for layer in layers:
            hidden = self._full_layer(layer, inputs, hidden)
        first = hidden[inputs.first]
        attended = inputs.attention.first_tokens(last.query(first), last.key_value(hidden))
        return self._finish(last, first, attended)

    def all_tokens(self, batch: FlatBatch) -> torch.Tensor:
        """Return the last hidden states of all tokens, text behind text: (tokens, hidden)."""
        inputs, hidden = self._embed(batch)
        for layer in self._layers:
            hidden = self._full_layer(layer, inputs, hidden)
        return hidden[: len(batch.ids)]

    def _embed(self, batch: FlatBatch) -> tuple[Inputs, torch.Tensor]:
        inputs = self._operators.inputs(batch, self._heads, self._first_position)
        hidden = functional.embedding(inputs.ids, self._words)
        hidden += functional.embedding(inputs.positions, self._positions)
        hidden += functional.embedding(inputs.types, self._types)
        return inputs, self._normalised(hidden, self._norm)

    def _full_layer(self, layer: "_Layer", inputs: Inputs, hidden: torch.Tensor) -> torch.Tensor:
        return self._finish(layer, hidden, inputs.attention.all_tokens(layer.query_key_value(hidden)))

    def _finish(self, layer: "_Layer", hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        hidden = self._normalised(layer.output.plus(attended, hidden), layer.attention_norm)
        return self._normalised(layer.down.plus(layer.up.gelu(hidden), hidden), layer.output_norm)

    def _normalised(self, hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
        return functional.layer_norm(hidden, hidden.shape[1:], *norm, self._eps)


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: Linear
    query: Linear
    key_value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm

    @classmethod
    def of(cls, layer: Any, operators: Operators) -> "_Layer":
        """Take over a ``BertLayer`` or ``(XLM)RobertaLayer``."""
        attention, projected = layer.attention, layer.attention.self
        return cls(
            operators.linear(projected.query, projected.key, projected.value),
            operators.linear(projected.query),
            operators.linear(projected.key, projected.value),
            operators.linear(attention.output.dense),
            _norm(attention.output.LayerNorm),
            operators.linear(layer.intermediate.dense),
            operators.linear(layer.output.dense),
            _norm(layer.output.LayerNorm),
        )


def joined(layers: tuple[nn.Linear, ...]) -> Norm:
    """Return the weight (outputs, inputs) and the bias (outputs,) of layers that read the same input, as one."""
    return torch.cat([_frozen(layer.weight) for layer in layers]), torch.cat([_frozen(layer.bias) for layer in layers])


def _norm(layer: nn.LayerNorm) -> Norm:
    return _frozen(layer.weight), _frozen(layer.bias)


def _frozen(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().contiguous()
