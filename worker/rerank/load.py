"""Which scorer a resolved model gets."""

from worker.models import ResolvedModel
from worker.rerank.base import Scorer
from worker.rerank.late_interaction import LateInteractionScorer
from worker.rerank.torch_scorer import TorchScorer
from worker.settings import RerankSettings


def load_scorer(model: ResolvedModel, settings: RerankSettings) -> Scorer:
    """Load and warm the scorer of a model; blocks for seconds. FatalError as the scorers raise it."""
    kind = LateInteractionScorer if model.scoring == "late-interaction" else TorchScorer
    return kind(model.path, model.name, settings)
