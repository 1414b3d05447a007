"""The cross-encoder for machines that reach no hub: int8 weights that a package carries, dequantised once.

The package is wanted for those files alone and never imported. Nothing is built at import; building takes seconds and
is done once per machine.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker.errors import FatalError
from worker.models.built_folder import built_folder, sha256
from worker.models.packages import CROSS_ENCODER_PACKAGE, INSTALL_OFFLINE, package_file

CROSS_ENCODER_NAME = "cross-encoder/ms-marco-MiniLM-L12-v2 (int8 weights)"
"""What answers call it, and what asks for it by name."""

HUB_NAME = "cross-encoder/ms-marco-MiniLM-L12-v2"
"""The model it was made of, whose weights are float32."""

# Refuses what is off the topic, and drops four fifths of what does not answer: worker/documents/samples/README.md.
MIN_SCORE = -4.5

MODEL_FILE = "model.onnx"
# sha256 of the package's files; pairs, and their scores by plain sentence-transformers, that the build must give again.
MANIFEST = Path(__file__).with_suffix(".json")
# The build is exact arithmetic in float32; only the order of additions differs between machines.
GOLDEN_TOLERANCE = 1e-2

# What the ONNX file has no place for. The activation is what `CrossEncoder.predict` puts behind the logit: none.
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 384,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30522,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
}


def cross_encoder_folder(cache_dir: Path) -> Path:
    """Return the built cross-encoder's folder, which plain ``CrossEncoder(path)`` loads.

    Built, or built anew when a file of it is damaged, under a lock: several processes may start at once. Blocks for
    seconds when it builds; one that is built needs only to be read. FatalError if the package is missing or its files
    are not the ones that were measured, if the built model does not give its golden scores, or if the folder can't be
    written.
    """
    digest = _manifest()["files"][MODEL_FILE]
    folder = cache_dir.expanduser() / "models" / f"ms-marco-MiniLM-L12-v2-int8-{digest[:12]}"
    return built_folder(folder, _build, what="the offline cross-encoder")


def _build(folder: Path) -> None:
    expected = _manifest()
    source = package_file(CROSS_ENCODER_PACKAGE, f"reranker_en/{MODEL_FILE}", INSTALL_OFFLINE).parent
    for name, digest in expected["files"].items():
        if not (source / name).is_file() or sha256(source / name) != digest:
            raise FatalError(f"{source / name} is not the file that was measured; {INSTALL_OFFLINE}, anew")
    _write(folder, source)
    golden = expected["golden"]
    scores = _scores(folder, [(pair["query"], pair["document"]) for pair in golden])
    for pair, score in zip(golden, scores, strict=True):
        if abs(score - pair["score"]) > GOLDEN_TOLERANCE:
            raise FatalError(f"the built cross-encoder scores {score:.4f} where {pair['score']:.4f} is right")


def _write(folder: Path, source: Path) -> None:
    # An extra, and a second to import: only who builds pays.
    try:
        from worker.models.dequantise import dequantised  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FatalError(
            f"the offline cross-encoder needs {error.name}, which is not installed: {INSTALL_OFFLINE}"
        ) from error
    from safetensors.numpy import save_file  # noqa: PLC0415

    save_file(dequantised(source / MODEL_FILE), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    for name in _manifest()["files"]:
        if name != MODEL_FILE:
            shutil.copyfile(source / name, folder / name)


def _scores(folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the logits of (query, document) pairs by plain sentence-transformers, on the CPU."""
    from sentence_transformers import CrossEncoder  # noqa: PLC0415 - seconds to import

    from worker.models.hub import hide_loading_bars  # noqa: PLC0415

    hide_loading_bars()
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    return [float(logit) for logit in model.predict(list(pairs), show_progress_bar=False)]


def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return manifest
