"""A cross-encoder of transformers on a torch device: padded batches anywhere, packed ones where we can."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from worker.rerank.backends.device import inference, moved, prepare, suited
from worker.rerank.backends.packed_backend import PackedBackend
from worker.rerank.backends.packed_cpu import can_pack
from worker.rerank.pairs.batch import ModelInputs
from worker.rerank.pairs.tokenizer import EncodedPair
from worker.rerank.scorer import Backend
from worker.settings import RerankSettings


def load_torch_backend(folder: Path, settings: RerankSettings) -> Backend:
    """Load the weights; blocks for seconds. FatalError if the device can't do the dtype; else as transformers."""
    device, dtype = prepare(settings)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=dtype)
    model = model.to(device).eval()
    if settings.packed and can_pack(model.config, device):
        return PackedBackend(model)
    return PaddedBackend(model, device)


class PaddedBackend:
    """Implements ``Backend`` for every architecture, on every torch device: one padded forward pass."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device
        self.batches = suited(device, padded=True)
        self._inputs = ModelInputs(model.config)

    def logits(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Run one padded forward pass; see ``Backend``."""
        inputs = self._inputs.batch(pairs)
        with inference(self._device):
            logits = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
            return moved(logits[:, 0])
