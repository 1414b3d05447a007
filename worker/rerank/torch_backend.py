"""A cross-encoder of transformers, run batch by batch on one torch device."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForSequenceClassification

from worker.rerank.base import EncodedPair
from worker.rerank.device import inference, moved, prepare
from worker.rerank.pairs import mask, padded
from worker.settings import RerankSettings


class TorchBackend:
    """Implements ``Backend`` for every architecture, on every torch device: one padded forward pass."""

    def __init__(self, folder: Path, settings: RerankSettings) -> None:
        """Load the weights; blocks for seconds. FatalError if the device can't do the dtype; else as transformers."""
        self._device, dtype = prepare(settings)
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=dtype)
        self._model = model.to(self._device).eval()
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
