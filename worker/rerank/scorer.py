"""What scores pairs: the contract of a scorer, and the cross-encoder that keeps it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from transformers import AutoConfig, AutoTokenizer

from worker.errors import FatalError
from worker.models.hub import hide_loading_bars
from worker.models.resolve import ResolvedModel
from worker.rerank.backends.device import Batches, Pending
from worker.rerank.backends.load import load_backend
from worker.rerank.pairs.batch import EncodedPair, FlatBatch
from worker.rerank.pairs.tokenizer import Asked, PairTokenizer
from worker.rerank.ranking import finite
from worker.settings import DEFAULT_CACHE_DIR, RerankSettings


class Scorer(Protocol):
    """A cross-encoder on one device. Not thread-safe: tokenise on one thread, start on one thread, wait on any."""

    @property
    def batches(self) -> Batches:
        """What batches suit it."""
        ...

    @property
    def model_name(self) -> str:
        """The name answers carry; an offline model never pretends to be the hub's."""
        ...

    def encode_all(self, asked: Sequence[Asked]) -> list[list[EncodedPair]]:
        """Tokenise each query's pairs, cut to the model's window as ``CrossEncoder`` cuts them. Blocking, CPU only.

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

    def start(self, pairs: Sequence[EncodedPair]) -> Pending:
        """Start one forward pass over the pairs; what it returns waits for it and gives one fp32 logit per pair.

        In the pairs' order. May be started again before that. On a CPU it blocks until the pass is done. A pair's logit
        does not depend on the others (1e-4 in fp32); NaN for one the model gives no number. FatalError, of either call,
        if the device is lost for good; any other error may be due to one pair, and fewer may succeed.
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

    def encode_all(self, asked: Sequence[Asked]) -> list[list[EncodedPair]]:
        """Tokenise pairs; see ``Scorer``."""
        return self._pairs.encode_all(asked)

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise the pairs of one query."""
        return self._pairs.encode(query, documents)

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        """Find windows of tokens in their texts; see ``Scorer``."""
        return self._pairs.spans(documents, windows)

    def start(self, pairs: Sequence[EncodedPair]) -> Pending:
        """Start one forward pass; see ``Scorer``."""
        # Texts of one length beside each other: some backends take them together.
        order = sorted(range(len(pairs)), key=lambda place: pairs[place].tokens)
        wait = self._backend.start(FlatBatch.of([pairs[place] for place in order]))
        return partial(_in_order, wait, order)

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs in one forward pass, and wait for it; raises as ``start``."""
        return self.start(pairs)()


def _in_order(wait: Pending, order: Sequence[int]) -> list[float]:
    """Return scores that came in ``order`` in the order of their pairs."""
    scores = [0.0] * len(order)
    for place, score in zip(order, wait(), strict=True):
        scores[place] = score
    return scores


def load_scorer(model: ResolvedModel, settings: RerankSettings, cache_dir: Path) -> Scorer:
    """Load and warm the scorer of a model; blocks for seconds. FatalError as ``CrossEncoderScorer`` raises it."""
    return CrossEncoderScorer(model.path, model.name, settings, cache_dir)


def _require_reranker(config: object, name: str) -> None:
    architectures = getattr(config, "architectures", None) or []
    remedy = "set RERANK_WORKER_RERANK__MODEL to a cross-encoder with a single logit"
    if not any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
        # An embedding model loads too: transformers gives it a head of random weights, and it ranks at random.
        raise FatalError(f"{name!r} is not a cross-encoder but {', '.join(architectures) or 'nothing known'}; {remedy}")
    outputs = getattr(config, "num_labels", 1)
    if outputs != 1:
        raise FatalError(f"{name!r} is not a reranker: it has {outputs} outputs, not one; {remedy}")
