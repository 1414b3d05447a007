"""What a backend is, and which one runs the model: the settings say so, and torch packs where it can."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from transformers import AutoModelForSequenceClassification

from worker.errors import FatalError
from worker.rerank.backends.device import Batches, prepare
from worker.rerank.backends.packed_cpu import PackedBackend, can_pack
from worker.rerank.backends.torch_padded import PaddedBackend
from worker.rerank.pairs.tokenizer import EncodedPair
from worker.settings import RerankSettings


class Backend(Protocol):
    """Runs a cross-encoder's forward pass: torch, ONNX Runtime or OpenVINO."""

    batches: Batches

    def logits(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Return one fp32 logit per pair, in order. Blocking, one thread; raises as ``Scorer.score``, NaN apart."""
        ...


def load_backend(folder: Path, settings: RerankSettings, cache_dir: Path) -> Backend:
    """Load the weights; blocks for seconds, longer where the model is exported first, to ``cache_dir``.

    FatalError if the backend is not installed, the device can't do the dtype or the export scores unlike torch; else as
    transformers raises it.
    """
    if settings.backend == "torch":
        return _load_torch(folder, settings)
    try:
        if settings.backend == "onnx":
            from worker.rerank.backends.onnx import OnnxBackend  # noqa: PLC0415 - an extra

            return OnnxBackend(folder, settings, cache_dir)
        from worker.rerank.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - an extra

        return OpenVinoBackend(folder, settings, cache_dir)
    except ModuleNotFoundError as error:
        raise FatalError(
            f"RERANK_WORKER_RERANK__BACKEND={settings.backend} needs {error.name}, which is not installed: "
            f"`pip install 'rerank-worker[{settings.backend}]'`, or set `torch`"
        ) from error


def _load_torch(folder: Path, settings: RerankSettings) -> Backend:
    device, dtype = prepare(settings)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=dtype)
    model = model.to(device).eval()
    if settings.packed and can_pack(model.config, device):
        return PackedBackend(model)
    return PaddedBackend(model, device)
