"""Which scorer a resolved model gets."""

from pathlib import Path

from worker.errors import FatalError
from worker.models.packages import CROSS_ENCODER_NAME
from worker.models.resolve import ResolvedModel
from worker.rerank.cross_encoder import CrossEncoderScorer
from worker.rerank.late_interaction import LateInteractionScorer
from worker.rerank.scorer import Scorer
from worker.settings import RerankSettings


def load_scorer(model: ResolvedModel, settings: RerankSettings, cache_dir: Path) -> Scorer:
    """Load and warm the scorer of a model; blocks for seconds. FatalError as the scorers raise it."""
    if model.scoring != "late-interaction":
        return CrossEncoderScorer(model.path, model.name, settings, cache_dir)
    if settings.backend != "torch":
        raise FatalError(
            f"RERANK_WORKER_RERANK__BACKEND={settings.backend} runs cross-encoders, and {model.name!r} is none: set "
            f"`torch`, or RERANK_WORKER_RERANK__MODEL={CROSS_ENCODER_NAME}"
        )
    return LateInteractionScorer(model.path, model.name, settings)
