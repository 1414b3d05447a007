"""Which model each role loads, and from where: a folder, the hub's cache, the hub, or the offline stand-ins.

Resolving may download (``hub``) or build (``offline``) and blocks; it never happens at import or on the loop.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import httpx
import structlog
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from worker.batching.executor import OneThread
from worker.errors import FatalError, TransientError
from worker.models import packages as offline_models
from worker.settings import RecallSettings, RerankSettings, Settings

logger = structlog.get_logger()

Role = Literal["embedding", "cross-encoder", "llm"]
Source = Literal["folder", "cache", "hub", "bundled"]
Scoring = Literal["cross-encoder", "late-interaction"]

ROLES: tuple[Role, ...] = ("embedding", "cross-encoder", "llm")

# Weights in formats nobody here loads would double a download.
DOWNLOADED = ("*.json", "*.txt", "*.safetensors", "*.model", "1_Pooling/*")

DEFAULT_EMBEDDING = str(RecallSettings.model_fields["embedding_model"].default)
DEFAULT_CROSS_ENCODER = str(RerankSettings.model_fields["model"].default)


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is on this machine."""

    role: Role
    name: str
    """What answers and collections call it; an offline stand-in with other weights has a name of its own."""
    path: Path
    """Folder (or GGUF file) to load it from."""
    source: Source
    scoring: Scoring = "cross-encoder"
    """How the model in the cross-encoder's place scores a pair."""
    prior_weight: float = 0.0
    """Weight of the recall similarity this scorer was measured with; 0 for all models but the offline ones."""
    min_score: float | None = None
    """The score below which a context is off-topic, where that was measured."""


def resolve(role: Role, settings: Settings) -> ResolvedModel:
    """Return the model of a role, fetching or building it if need be. Blocks.

    FatalError if it can't be had: the text says what to install or to set. Never silently another model: only the
    default names have an offline stand-in.
    """
    if role == "llm":
        return ResolvedModel(role, offline_models.LLM_NAME, offline_models.llm_file(), "bundled")
    name = settings.recall.embedding_model if role == "embedding" else settings.rerank.model
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ResolvedModel(role, name, folder, "folder")
    if settings.models == "offline" or name in offline_models.RERANKERS:
        return _offline(role, name, settings)
    try:
        return _from_hub(role, name, settings)
    except TransientError as error:
        why = str(error)
        if settings.models == "hub":
            raise FatalError(f"{why}; RERANK_WORKER_MODELS=auto takes a stand-in where there is one") from error
    try:
        model = _offline(role, name, settings)
    except FatalError as error:
        raise FatalError(f"{error} ({why})") from error
    logger.info("taking the offline model", role=role, wanted=name, taken=model.name, reason=why)
    return model


def _from_hub(role: Role, name: str, settings: Settings) -> ResolvedModel:
    cached = _from_cache(name)
    if cached is not None:
        return ResolvedModel(role, name, cached, "cache")
    if settings.models == "auto":
        _reach_hub(settings.hub_timeout_s)
    return ResolvedModel(role, name, _download(name), "hub")


def _offline(role: Role, name: str, settings: Settings) -> ResolvedModel:
    if role == "embedding" and name == DEFAULT_EMBEDDING:
        # The very same weights: collections built with one can be searched with the other.
        return ResolvedModel(role, name, offline_models.embedding_folder(), "bundled")
    if role == "cross-encoder" and name in {DEFAULT_CROSS_ENCODER, offline_models.LATE_INTERACTION_NAME}:
        # The best of what needs no hub, on every graded set measured: offline_cross_encoder/MODEL_CARD.md.
        return ResolvedModel(
            role,
            offline_models.LATE_INTERACTION_NAME,
            offline_models.embedding_folder(),
            "bundled",
            "late-interaction",
            offline_models.LATE_INTERACTION_PRIOR_WEIGHT,
            offline_models.LATE_INTERACTION_MIN_SCORE,
        )
    if role == "cross-encoder" and name == offline_models.CROSS_ENCODER_NAME:
        return ResolvedModel(
            role,
            name,
            offline_models.cross_encoder_folder(settings.cache_dir),
            "bundled",
            "cross-encoder",
            offline_models.CROSS_ENCODER_PRIOR_WEIGHT,
            offline_models.CROSS_ENCODER_MIN_SCORE,
        )
    raise FatalError(
        f"the {role} model {name!r} is neither a folder here nor to be had from a hub (RERANK_WORKER_MODELS="
        f"{settings.models}); only {DEFAULT_EMBEDDING!r} and {DEFAULT_CROSS_ENCODER!r} have an offline stand-in"
    )


def _from_cache(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), local_files_only=True))
    except (OSError, ValueError):
        # Not there, known to be incomplete, or a name that no hub has.
        return None
    return folder if _has_weights(folder) else None


def _reach_hub(timeout_s: float) -> None:
    """Return if the hub answers in time; TransientError says why not."""
    if constants.is_offline_mode():
        raise TransientError("HF_HUB_OFFLINE is set")
    # httpx's timeouts cover neither the look-up of the name nor the sum of all steps: this one does.
    thread = OneThread("hub-probe")
    try:
        # Any answer will do, since mirrors differ in what their root holds; where a proxy refuses, the download fails.
        thread.submit(partial(httpx.head, constants.ENDPOINT, timeout=timeout_s)).result(timeout_s)
    except (httpx.HTTPError, TimeoutError) as error:
        raise TransientError(f"{constants.ENDPOINT} can't be reached within {timeout_s:g} s ({error!r})") from error
    finally:
        thread.close()


def _download(name: str) -> Path:
    """Return the folder of a model fetched from the hub; TransientError if that failed, FatalError if it never can."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), endpoint=constants.ENDPOINT))
    except RepositoryNotFoundError as error:
        raise FatalError(f"the hub has no model {name!r}, or it is private: set HF_TOKEN, or another name") from error
    except Exception as error:
        raise TransientError(
            f"the model {name!r} could not be fetched from {constants.ENDPOINT}: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    if not _has_weights(folder):
        raise FatalError(f"the model {name!r} has no safetensors weights on the hub; name one that has, or a folder")
    return folder


def _has_weights(folder: Path) -> bool:
    # Other libraries, and downloads that were cut off, leave folders in the cache with a file or two.
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
