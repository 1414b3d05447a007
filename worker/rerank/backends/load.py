"""What a backend is, and which one runs the model: the settings say so, and torch packs where it can."""

from pathlib import Path
from typing import Protocol

import torch
from transformers import AutoModelForSequenceClassification

from worker.errors import FatalError
from worker.rerank.backends.device import Batches, Pending, prepare
from worker.rerank.backends.packed import Operators, PackedBackend, can_pack
from worker.rerank.backends.packed_cpu import CpuOperators, cpu_packs
from worker.rerank.backends.packed_cuda import CudaOperators, cuda_packs
from worker.rerank.backends.torch_padded import PaddedBackend
from worker.rerank.pairs.batch import FlatBatch
from worker.settings import RerankSettings


class Backend(Protocol):
    """Runs a cross-encoder's forward pass: torch, ONNX Runtime or OpenVINO."""

    batches: Batches

    def start(self, batch: FlatBatch) -> Pending:
        """Start one forward pass: one fp32 logit per pair, in order. One thread; raises as ``Scorer.start``.

        On a GPU it returns before the pass is done; elsewhere it blocks.
        """
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
    operators = packing_operators(device, dtype) if settings.packed and can_pack(model.config) else None
    return PaddedBackend(model, device) if operators is None else PackedBackend(model, operators)


def packing_operators(device: torch.device, dtype: torch.dtype) -> Operators | None:
    """Return what computes packed batches on a device in a precision; None where nothing does."""
    if device.type == "cpu" and cpu_packs():
        return CpuOperators()
    return CudaOperators(device) if cuda_packs(device, dtype) else None
