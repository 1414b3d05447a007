"""Which model each role loads, and from where: a folder, the hub's cache, the hub, or the offline stand-ins.

Resolving may download (``hub``) or build (``offline``) and blocks; it never happens at import or on the loop.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from worker.errors import FatalError, TransientError
from worker.models import hub, packages
from worker.settings import RecallSettings, RerankSettings, Settings

logger = structlog.get_logger()

Role = Literal["embedding", "cross-encoder", "llm"]
ModelSource = Literal["folder", "cache", "hub", "bundled"]
Scoring = Literal["cross-encoder", "late-interaction"]

ROLES: tuple[Role, ...] = ("embedding", "cross-encoder", "llm")

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
    source: ModelSource
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
        return ResolvedModel(role, packages.LLM_NAME, packages.llm_file(), "bundled")
    name = settings.recall.embedding_model if role == "embedding" else settings.rerank.model
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ResolvedModel(role, name, folder, "folder")
    if settings.models == "offline" or name in packages.RERANKERS:
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
    cached = hub.from_cache(name)
    if cached is not None:
        return ResolvedModel(role, name, cached, "cache")
    if settings.models == "auto":
        hub.require_reachable(settings.hub_timeout_s)
    return ResolvedModel(role, name, hub.download(name), "hub")


def _offline(role: Role, name: str, settings: Settings) -> ResolvedModel:
    if role == "embedding" and name == DEFAULT_EMBEDDING:
        # The very same weights: collections built with one can be searched with the other.
        return ResolvedModel(role, name, packages.embedding_folder(), "bundled")
    if role == "cross-encoder" and name in {DEFAULT_CROSS_ENCODER, packages.LATE_INTERACTION_NAME}:
        # The best of what needs no hub, on every graded set measured: offline_cross_encoder/MODEL_CARD.md.
        return ResolvedModel(
            role,
            packages.LATE_INTERACTION_NAME,
            packages.embedding_folder(),
            "bundled",
            "late-interaction",
            packages.LATE_INTERACTION_PRIOR_WEIGHT,
            packages.LATE_INTERACTION_MIN_SCORE,
        )
    if role == "cross-encoder" and name == packages.CROSS_ENCODER_NAME:
        return ResolvedModel(
            role,
            name,
            packages.cross_encoder_folder(settings.cache_dir),
            "bundled",
            "cross-encoder",
            packages.CROSS_ENCODER_PRIOR_WEIGHT,
            packages.CROSS_ENCODER_MIN_SCORE,
        )
    raise FatalError(
        f"the {role} model {name!r} is neither a folder here nor to be had from a hub (RERANK_WORKER_MODELS="
        f"{settings.models}); only {DEFAULT_EMBEDDING!r} and {DEFAULT_CROSS_ENCODER!r} have an offline stand-in"
    )
