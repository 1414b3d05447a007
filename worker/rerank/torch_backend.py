"""A cross-encoder of transformers on a torch device: padded batches anywhere, packed ones where we can."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from worker.rerank.base import Backend, EncodedPair
from worker.rerank.device import inference, moved, prepare, suited
from worker.rerank.packed import can_pack
from worker.rerank.packed_backend import PackedBackend
from worker.rerank.pairs import mask, padded
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
        self._padding = int(model.config.pad_token_id or 0)
        self._takes_types = getattr(model.config, "type_vocab_size", 0) > 1

    def logits(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Run one padded forward pass; see ``Backend``."""
        ids = [pair.input_ids for pair in pairs]
        inputs = {"input_ids": padded(ids, self._padding), "attention_mask": mask(ids)}
        if self._takes_types:
            inputs["token_type_ids"] = padded([pair.token_type_ids for pair in pairs], 0)
        with inference(self._device):
            logits = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
            return moved(logits[:, 0])
