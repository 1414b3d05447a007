"""A cross-encoder run by OpenVINO on the CPU."""

from pathlib import Path

import openvino

from worker.models.threads import cpu_threads
from worker.rerank.backends.device import CPU, Pending, suited
from worker.rerank.backends.export import exported
from worker.rerank.backends.int8 import require_fast_int8, weights_alone
from worker.rerank.pairs.batch import FlatBatch, ModelInputs
from worker.settings import RerankSettings

# Values of a token's activations that share a scale, in int8. The widths of the usual models are multiples of it.
GROUP_SIZE = 128


class OpenVinoBackend:
    """Implements ``Backend``: one padded forward pass, in fp32 or int8."""

    def __init__(self, folder: Path, settings: RerankSettings, cache_dir: Path) -> None:
        """Load the model, exporting it first if need be; blocks for seconds. FatalError as ``exported`` raises it."""
        if settings.dtype == "int8":
            require_fast_int8()
            file = exported(folder, cache_dir, "int8-weights", weights_alone)
        else:
            file = exported(folder, cache_dir, "float32")
        self.batches = suited(CPU, padded=True)
        self._inputs = ModelInputs.of(folder)
        properties = {
            # Left alone, it computes in bfloat16 where the processor does.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": cpu_threads(settings),
            "NUM_STREAMS": 1,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP_SIZE if settings.dtype == "int8" else 0,
        }
        self._request = openvino.Core().compile_model(file, "CPU", properties).create_infer_request()

    def start(self, batch: FlatBatch) -> Pending:
        """Run one padded forward pass; see ``Backend``."""
        inputs = {name: tensor.numpy() for name, tensor in self._inputs.batch(batch).items()}
        scores: list[float] = self._request.infer(inputs)["logits"].tolist()
        return lambda: scores
