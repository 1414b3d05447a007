"""A cross-encoder of transformers as an ONNX file, which ONNX Runtime and OpenVINO read alike.

Exported once per model, kind and machine, into the cache; needs no network.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from transformers import AutoModelForSequenceClassification

from worker.errors import FatalError
from worker.models.built_folder import built_folder, sha256
from worker.rerank.pairs.batch import FlatBatch, ModelInputs

EXPORT_VERSION = 1
"""Raised by every change of what is written: a cached file of another version is not read."""

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
OPSET = 17

# Lengths of the pairs that are traced, and of others: a trace that froze a shape or the mask scores those otherwise.
TRACED_TOKENS = (9, 5)
CHECKED_TOKENS = ((4,), (13, 6, 11))
QUERY_TOKENS = 3
# fp32 runtimes add in different orders; a frozen trace is off by tenths.
CHECK_TOLERANCE = 1e-3

Rewrite = Callable[[onnx.ModelProto], None]


def exported(folder: Path, cache_dir: Path, kind: str, rewrite: Rewrite | None = None) -> Path:
    """Return the ONNX file of the cross-encoder in ``folder``, its weights in fp32 or as ``rewrite`` leaves them.

    It takes the inputs of ``ModelInputs``, of any batch and length; its output ``logits`` has one value per pair.
    ``kind`` names the rewrite in the cache. Blocks for seconds when it builds; see ``built_folder``. FatalError if the
    export scores unlike torch.
    """
    name = f"onnx-{kind}-{_key(folder)}"
    build = partial(_build, folder, rewrite=rewrite)
    return built_folder(cache_dir.expanduser() / "models" / name, build, what="the ONNX model") / MODEL_FILE


def _key(folder: Path) -> str:
    weights = sorted(path for ending in ("*.safetensors", "*.bin") for path in folder.glob(ending))
    if not weights:
        raise FatalError(f"{folder} has no weights to export: name a folder with *.safetensors")
    parts = [str(EXPORT_VERSION), *(sha256(path) for path in [folder / "config.json", *weights])]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def _build(folder: Path, out: Path, *, rewrite: Rewrite | None) -> None:
    model = _Logits(folder)
    file = out / MODEL_FILE
    _export(model, file)
    _check(model, file)
    if rewrite is not None:
        graph = onnx.load(file)
        rewrite(graph)
        # Weights beyond 2 GiB, which is what a protobuf holds, were written beside it by the exporter.
        for each in out.iterdir():
            each.unlink()
        onnx.save(graph, file, save_as_external_data=True, location=WEIGHTS_FILE)


class _Logits(torch.nn.Module):
    """Takes its inputs by place, as tracing does; returns one logit per pair."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.inputs = ModelInputs.of(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            # The fused kind traces into guards against rows that are masked whole, which no pair is.
            attn_implementation="eager",
        )
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.inputs.names, inputs, strict=True))).logits
        return logits[:, 0]

    def example(self, tokens: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return a batch of pairs of so many tokens, with ids that every vocabulary has."""
        ids = [np.arange(5, 5 + each, dtype=np.int32) for each in tokens]
        types = [(np.arange(each) >= QUERY_TOKENS).astype(np.int32) for each in tokens]
        return self.inputs.batch(FlatBatch(np.concatenate(ids), np.concatenate(types), np.array(tokens, np.int32)))


def _export(model: _Logits, file: Path) -> None:
    example = model.example(TRACED_TOKENS)
    axes = {name: {0: "batch", 1: "length"} for name in example}
    with warnings.catch_warnings():
        # Tracing warns of every shape that is looked at; whether one was frozen is for _check to say.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(example.values()),
            str(file),
            input_names=list(example),
            output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: "batch"}},
            opset_version=OPSET,
            # The newer exporter needs one more package.
            dynamo=False,
        )


def _check(model: _Logits, file: Path) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for tokens in CHECKED_TOKENS:
        batch = model.example(tokens)
        with torch.inference_mode():
            expected = model(*batch.values()).numpy()
        [logits] = session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()})
        if not np.allclose(logits, expected, rtol=CHECK_TOLERANCE, atol=CHECK_TOLERANCE):
            raise FatalError(
                f"exported to ONNX, a {model.model.config.model_type} model scores {logits.tolist()} where torch "
                f"scores {expected.tolist()}; set RERANK_WORKER_RERANK__BACKEND=torch"
            )
