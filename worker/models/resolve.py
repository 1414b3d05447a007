"""Which model each role loads, and from where: a folder, the hub's cache, the hub, or the offline stand-ins.

Resolving may download (``hub``) or build (``offline``) and blocks; it never happens at import or on the loop.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from worker.errors import FatalError, TransientError
from worker.models import hub, offline_cross_encoder, packages
from worker.settings import RecallSettings, RerankSettings, Settings

logger = structlog.get_logger()

Role = Literal["embedding", "cross-encoder", "llm"]
ModelSource = Literal["folder", "cache", "hub", "bundled"]

ROLES: tuple[Role, ...] = ("embedding", "cross-encoder", "llm")

DEFAULT_EMBEDDING = str(RecallSettings.model_fields["embedding_model"].default)
DEFAULT_CROSS_ENCODER = str(RerankSettings.model_fields["model"].default)

STOOD_IN_FOR = frozenset(
    {DEFAULT_CROSS_ENCODER, offline_cross_encoder.HUB_NAME, offline_cross_encoder.CROSS_ENCODER_NAME}
)
"""The cross-encoders in whose place the offline one may be loaded; answers name that, never one of these."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is on this machine."""

    role: Role
    name: str
    """What answers and collections call it; an offline stand-in with other weights has a name of its own."""
    path: Path
    """Folder (or GGUF file) to load it from."""
    source: ModelSource
    min_score: float | None = None
    """The score below which a context is off-topic, where that was measured."""
    package: str | None = None
    """The installed package that carries its weights."""


def resolve(role: Role, settings: Settings) -> ResolvedModel:
    """Return the model of a role, fetching or building it if need be. Blocks.

    FatalError if it can't be had: the text says what to install or to set. Never silently another model: only the
    default names have an offline stand-in.
    """
    if role == "llm":
        return ResolvedModel(role, packages.LLM_NAME, packages.llm_file(), "bundled", package=packages.LLM_PACKAGE)
    name = settings.recall.embedding_model if role == "embedding" else settings.rerank.model
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ResolvedModel(role, name, folder, "folder")
    if settings.models == "offline" or name == offline_cross_encoder.CROSS_ENCODER_NAME:
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


def resolve_here(role: Role, settings: Settings) -> ResolvedModel:
    """Return the model of a role if this machine has it; nothing is downloaded. FatalError if it has not."""
    name = settings.recall.embedding_model if role == "embedding" else settings.rerank.model
    cached = None if settings.models == "offline" or Path(name).expanduser().is_dir() else hub.from_cache(name)
    if cached is not None:
        return ResolvedModel(role, name, cached, "cache")
    return resolve(role, settings.model_copy(update={"models": "offline"}))


def _from_hub(role: Role, name: str, settings: Settings) -> ResolvedModel:
    cached = hub.from_cache(name)
    if cached is not None:
        return ResolvedModel(role, name, cached, "cache")
    if settings.models == "auto":
        hub.require_reachable(settings.hub_timeout_s)
    return ResolvedModel(role, name, hub.download(name), "hub")


def _offline(role: Role, name: str, settings: Settings) -> ResolvedModel:
    if role == "embedding" and name == DEFAULT_EMBEDDING:
        # The very same weights: collections built with one can be searched with the other.
        folder = packages.embedding_folder()
        return ResolvedModel(role, name, folder, "bundled", package=packages.EMBEDDING_PACKAGE)
    if role == "cross-encoder" and name in STOOD_IN_FOR:
        return ResolvedModel(
            role,
            offline_cross_encoder.CROSS_ENCODER_NAME,
            offline_cross_encoder.cross_encoder_folder(settings.cache_dir),
            "bundled",
            offline_cross_encoder.MIN_SCORE,
            packages.CROSS_ENCODER_PACKAGE,
        )
    raise FatalError(
        f"the {role} model {name!r} is neither a folder here nor to be had from a hub (RERANK_WORKER_MODELS="
        f"{settings.models}); only {DEFAULT_EMBEDDING!r}, {DEFAULT_CROSS_ENCODER!r} and "
        f"{offline_cross_encoder.HUB_NAME!r} have an offline stand-in"
    )
