"""A cross-encoder of transformers on any torch device, its batches padded. Short: one backend a file."""

import torch
from transformers import PreTrainedModel

from worker.rerank.backends.device import Pending, inference, pending, suited
from worker.rerank.pairs.batch import FlatBatch, ModelInputs


class PaddedBackend:
    """Implements ``Backend`` for every architecture, on every torch device: one padded forward pass."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device
        self.batches = suited(device, padded=True)
        self._inputs = ModelInputs(model.config)

    def start(self, batch: FlatBatch) -> Pending:
        """Start one padded forward pass; see ``Backend``."""
        inputs = self._inputs.batch(batch)
        with inference(self._device):
            logits = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
            return pending(logits[:, 0])
