"""Which scorer a resolved model gets."""

from worker.models import ResolvedModel
from worker.rerank.base import Scorer
from worker.rerank.cross_encoder import CrossEncoderScorer
from worker.rerank.late_interaction import LateInteractionScorer
from worker.settings import RerankSettings


def load_scorer(model: ResolvedModel, settings: RerankSettings) -> Scorer:
    """Load and warm the scorer of a model; blocks for seconds. FatalError as the scorers raise it."""
    kind = LateInteractionScorer if model.scoring == "late-interaction" else CrossEncoderScorer
    return kind(model.path, model.name, settings)
