"""A cross-encoder of the BERT family on a CPU, its batches packed instead of padded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from worker.rerank.backends.device import CPU, inference, moved, suited
from worker.rerank.backends.packed_cpu import PackedEncoder
from worker.rerank.pairs.tokenizer import EncodedPair


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
