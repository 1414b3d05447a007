"""A cross-encoder run by ONNX Runtime on the CPU."""

from pathlib import Path

import onnxruntime

from worker.models.threads import cpu_threads
from worker.rerank.backends.device import CPU, Pending, suited
from worker.rerank.backends.export import exported
from worker.rerank.backends.int8 import require_fast_int8, weights_and_tokens
from worker.rerank.pairs.batch import FlatBatch, ModelInputs
from worker.settings import RerankSettings

ERRORS_ALONE = 3


class OnnxBackend:
    """Implements ``Backend``: one padded forward pass, in fp32 or int8."""

    def __init__(self, folder: Path, settings: RerankSettings, cache_dir: Path) -> None:
        """Load the model, exporting it first if need be; blocks for seconds. FatalError as ``exported`` raises it."""
        if settings.dtype == "int8":
            require_fast_int8()
            file = exported(folder, cache_dir, "int8-tokens", weights_and_tokens)
        else:
            file = exported(folder, cache_dir, "float32")
        self.batches = suited(CPU, padded=True)
        self._inputs = ModelInputs.of(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_threads(settings)
        # Both keep the memory of the largest batch there ever was.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        # Its threads would spin for each other at every product: nothing gained alone, a third lost beside a neighbour.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = ERRORS_ALONE
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def start(self, batch: FlatBatch) -> Pending:
        """Run one padded forward pass; see ``Backend``."""
        inputs = {name: tensor.numpy() for name, tensor in self._inputs.batch(batch).items()}
        [logits] = self._session.run(["logits"], inputs)
        scores: list[float] = logits.tolist()
        return lambda: scores
