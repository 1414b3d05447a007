"""Which model each role loads, and from where: a folder, the hub's cache, the hub, or the offline stand-ins.

Resolving may download (``hub``) or build (``offline``) and blocks; it never happens at import or on the loop.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import structlog
from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from worker.errors import FatalError
from worker.local import offline_models
from worker.settings import RecallSettings, RerankSettings, Settings

logger = structlog.get_logger()

Role = Literal["embedding", "cross-encoder", "llm"]
Source = Literal["folder", "cache", "hub", "bundled"]

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
    prior_weight: float = 0.0
    """Weight of the recall similarity this cross-encoder was measured with; 0 for all other models."""


def resolve(role: Role, settings: Settings) -> ResolvedModel:
    """Return the model of a role, fetching or building it if need be. Blocks.

    FatalError if it can't be had: the text says what to install or to set. Never silently another model: only the
    default names have an offline stand-in.
    """
    if role == "llm":
        return ResolvedModel(role, offline_models.LLM_NAME, offline_models.llm_file(), "bundled")
    name = settings.recall.embedding_model if role == "embedding" else settings.rerank.model
    if Path(name).expanduser().is_dir():
        return ResolvedModel(role, name, Path(name).expanduser(), "folder")
    if settings.models == "offline":
        return _offline(role, name, settings)
    cached = _from_cache(name)
    if cached is not None:
        return ResolvedModel(role, name, cached, "cache")
    if settings.models == "hub" or _hub_answers(settings.hub_timeout_s):
        return ResolvedModel(role, name, _download(name), "hub")
    model = _offline(role, name, settings)
    logger.info("the model hub can't be reached: taking the offline model", role=role, wanted=name, taken=model.name)
    return model


def _offline(role: Role, name: str, settings: Settings) -> ResolvedModel:
    if role == "embedding" and name == DEFAULT_EMBEDDING:
        # The very same weights: collections built with one can be searched with the other.
        return ResolvedModel(role, name, offline_models.embedding_folder(), "bundled")
    if role == "cross-encoder" and name == DEFAULT_CROSS_ENCODER:
        return ResolvedModel(
            role,
            offline_models.CROSS_ENCODER_NAME,
            offline_models.cross_encoder_folder(settings.cache_dir),
            "bundled",
            offline_models.CROSS_ENCODER_PRIOR_WEIGHT,
        )
    raise FatalError(
        f"the {role} model {name!r} is not a folder, not in the hub's cache, and the hub is off or can't be reached "
        f"(RERANK_WORKER_MODELS={settings.models}); only {DEFAULT_EMBEDDING!r} and {DEFAULT_CROSS_ENCODER!r} "
        "have an offline stand-in"
    )


def _from_cache(name: str) -> Path | None:
    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def _hub_answers(timeout_s: float) -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    try:
        httpx.head(ENDPOINT, timeout=timeout_s)
    except httpx.HTTPError:
        return False
    return True


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except RepositoryNotFoundError as error:
        raise FatalError(f"the hub has no model {name!r}, or it is private: set HF_TOKEN, or another name") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FatalError(
            f"the model {name!r} could not be fetched from {ENDPOINT} ({type(error).__name__}); "
            "set RERANK_WORKER_MODELS=auto to fall back to the offline models"
        ) from error
