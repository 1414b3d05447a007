"""Which rerankers are compared: the configured one, or each model with each backend that was named."""

from collections.abc import Sequence

from pydantic import ValidationError

from worker.errors import FatalError
from worker.evaluation.reranking import Subject
from worker.models.resolve import resolve
from worker.settings import RerankSettings, Settings
from worker.settings.rules import check_settings


def subjects(
    settings: Settings, models: Sequence[str], backends: Sequence[str], *, cosine: bool, configured: bool
) -> list[Subject]:
    """Return what to evaluate: cosine first if wanted, then every model with every backend (`onnx`, `torch:bfloat16`).

    ``configured``: without a name the one of the settings. Blocks where a model is downloaded. FatalError for a
    combination that can't work, or a model that is not to be had: before anything is scored.
    """
    if backends and settings.rerank.remote_url is not None:
        raise FatalError(
            "--backend is about a model in this process; RERANK_WORKER_RERANK__REMOTE_URL names an endpoint"
        )
    by_cosine = [Subject(settings, resolve("embedding", settings), " (cosine)")] if cosine else []
    if not (models or backends or configured):
        return by_cosine
    unnamed: list[str | None] = [None]
    several = len(backends) > 1
    return by_cosine + [
        _subject(_changed(settings, model, backend), f" ({backend})" if several else "")
        for model in models or [settings.rerank.model]
        for backend in backends or unnamed
    ]


def _subject(settings: Settings, label: str) -> Subject:
    return Subject(settings, settings.rerank.remote_url or resolve("cross-encoder", settings), label)


def _changed(settings: Settings, model: str, backend: str | None) -> Settings:
    changes: dict[str, str] = {"model": model}
    if backend is not None:
        changes["backend"], _, dtype = backend.partition(":")
        changes["dtype"] = dtype or "auto"
    try:
        rerank = RerankSettings.model_validate(settings.rerank.model_dump(exclude_unset=True) | changes)
    except ValidationError as error:
        raise FatalError(
            f"--backend {backend} is none: give torch, onnx or openvino, and perhaps a dtype behind a colon, "
            "e.g. torch:bfloat16"
        ) from error
    changed = settings.model_copy(update={"rerank": rerank})
    check_settings(changed)
    return changed
