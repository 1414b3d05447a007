"""A cross-encoder as a scorer: its tokenizer, and the backend that runs it."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

from worker.errors import FatalError
from worker.rerank.backends.load import load_exporting
from worker.rerank.backends.torch_padded import load_torch_backend
from worker.rerank.pairs.tokenizer import EncodedPair, PairTokenizer
from worker.rerank.ranking import finite
from worker.rerank.scorer import Backend, Batches
from worker.settings import DEFAULT_CACHE_DIR, RerankSettings
from worker.telemetry.logs import hide_loading_bars


class CrossEncoderScorer:
    """Implements ``Scorer``. Loading blocks for seconds; warm at once, so that no query pays for the first pass."""

    def __init__(
        self, folder: Path, model_name: str, settings: RerankSettings, cache_dir: Path = DEFAULT_CACHE_DIR
    ) -> None:
        """Load the model, with what a backend makes of it kept under ``cache_dir``.

        FatalError if it is no cross-encoder with one output, the backend is not installed, or can't do the dtype.
        """
        hide_loading_bars()
        self._model_name = model_name
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            _require_reranker(config, model_name)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._backend = _load_backend(folder, settings, cache_dir)
        except FatalError:
            raise
        except Exception as error:
            raise FatalError(
                f"the cross-encoder {model_name!r} can't be loaded from {folder}: {error}; see `rerank-worker models`"
            ) from error
        positions = int(getattr(config, "max_position_embeddings", settings.max_length))
        self._pairs = PairTokenizer(tokenizer, min(settings.max_length, positions), settings)
        self.score(self.encode("warm-up", ["the first pass allocates and compiles"]))

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model_name

    @property
    def batches(self) -> Batches:
        """What batches suit the backend."""
        return self._backend.batches

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        return self._pairs.encode(query, documents)

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs in one forward pass; see ``Scorer``."""
        return finite(self._backend.logits(pairs), self._model_name)


def _load_backend(folder: Path, settings: RerankSettings, cache_dir: Path) -> Backend:
    if settings.backend != "torch":
        return load_exporting(settings.backend, folder, settings, cache_dir)
    return load_torch_backend(folder, settings)


def _require_reranker(config: object, name: str) -> None:
    architectures = getattr(config, "architectures", None) or []
    remedy = "set RERANK_WORKER_RERANK__MODEL to a cross-encoder with a single logit"
    if not any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
        # An embedding model loads too: transformers gives it a head of random weights, and it ranks at random.
        raise FatalError(f"{name!r} is not a cross-encoder but {', '.join(architectures) or 'nothing known'}; {remedy}")
    outputs = getattr(config, "num_labels", 1)
    if outputs != 1:
        raise FatalError(f"{name!r} is not a reranker: it has {outputs} outputs, not one; {remedy}")
