"""What scores pairs: the contract of a scorer, the cross-encoder that keeps it, and which scorer a model gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from transformers import AutoConfig, AutoTokenizer

from worker.errors import FatalError
from worker.models.hub import hide_loading_bars
from worker.models.packages import CROSS_ENCODER_NAME
from worker.models.resolve import ResolvedModel
from worker.rerank.backends.device import Batches
from worker.rerank.backends.load import load_backend
from worker.rerank.late_interaction import LateInteractionScorer
from worker.rerank.pairs.tokenizer import EncodedPair, PairTokenizer
from worker.rerank.ranking import finite
from worker.settings import DEFAULT_CACHE_DIR, RerankSettings


class Scorer(Protocol):
    """A cross-encoder on one device. Not thread-safe: tokenise on one thread, score on one thread."""

    @property
    def batches(self) -> Batches:
        """What batches suit it."""
        ...

    @property
    def model_name(self) -> str:
        """The name answers carry; an offline model never pretends to be the hub's."""
        ...

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs, cut to the model's window as ``CrossEncoder`` cuts them. Blocking, CPU only.

        A document never costs a query its words unless the query takes more than half the window; then both keep half.
        With ``rerank.long_documents`` other than `truncate`, one that is too long becomes several pairs, one after the
        other.
        """
        ...

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        """Return the characters, from and to, that one window (``EncodedPair.window``) of each document covers.

        Blocking, CPU only.
        """
        ...

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Return one fp32 logit per pair, in order, from one forward pass. Blocking.

        A pair's logit does not depend on the others (1e-4 in fp32). NaN for a pair the model gives no number.
        FatalError if the device is lost for good; any other error may be due to one pair, and fewer may succeed.
        """
        ...


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
            self._backend = load_backend(folder, settings, cache_dir)
        except FatalError:
            raise
        except Exception as error:
            raise FatalError(
                f"the cross-encoder {model_name!r} can't be loaded from {folder}: {error}; see `rerank-worker models`"
            ) from error
        positions = int(getattr(config, "max_position_embeddings", settings.max_length))
        self._pairs = PairTokenizer(tokenizer, min(settings.max_length, positions), settings)
        finite(self.score(self.encode("warm-up", ["the first pass allocates and compiles"])), model_name)

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

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        """Find windows of tokens in their texts; see ``Scorer``."""
        return self._pairs.spans(documents, windows)

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs in one forward pass; see ``Scorer``."""
        return self._backend.logits(pairs)


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


def _require_reranker(config: object, name: str) -> None:
    architectures = getattr(config, "architectures", None) or []
    remedy = "set RERANK_WORKER_RERANK__MODEL to a cross-encoder with a single logit"
    if not any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
        # An embedding model loads too: transformers gives it a head of random weights, and it ranks at random.
        raise FatalError(f"{name!r} is not a cross-encoder but {', '.join(architectures) or 'nothing known'}; {remedy}")
    outputs = getattr(config, "num_labels", 1)
    if outputs != 1:
        raise FatalError(f"{name!r} is not a reranker: it has {outputs} outputs, not one; {remedy}")
