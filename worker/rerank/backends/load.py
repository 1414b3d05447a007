"""The backends that run an export of the model, and what they need installed."""

from pathlib import Path
from typing import Literal

from worker.errors import FatalError
from worker.rerank.scorer import Backend
from worker.settings import RerankSettings


def load_exporting(
    name: Literal["onnx", "openvino"], folder: Path, settings: RerankSettings, cache_dir: Path
) -> Backend:
    """Load a backend that is an extra. FatalError if it is not installed, and as the backend raises it."""
    try:
        if name == "onnx":
            from worker.rerank.backends.onnx import OnnxBackend  # noqa: PLC0415 - an extra

            return OnnxBackend(folder, settings, cache_dir)
        from worker.rerank.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - an extra

        return OpenVinoBackend(folder, settings, cache_dir)
    except ModuleNotFoundError as error:
        raise FatalError(
            f"RERANK_WORKER_RERANK__BACKEND={name} needs {error.name}, which is not installed: "
            f"`pip install 'rerank-worker[{name}]'`, or set `torch`"
        ) from error
