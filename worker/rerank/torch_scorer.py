"""A cross-encoder of sentence-transformers, scored batch by batch on one torch device."""

from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import CrossEncoder

from worker.errors import FatalError
from worker.rerank.base import EncodedPair
from worker.rerank.device import inference, numbers, prepare
from worker.rerank.pairs import PairTokenizer, mask, padded
from worker.settings import RerankSettings
from worker.telemetry.logs import hide_loading_bars


class TorchScorer:
    """Implements ``Scorer``. Loading blocks for seconds; warm at once, so that no query pays for the first pass."""

    def __init__(self, folder: Path, model_name: str, settings: RerankSettings) -> None:
        """Load the model. FatalError if it is no cross-encoder with one output, or the device can't do the dtype."""
        hide_loading_bars()
        self._model_name = model_name
        self._device, dtype = prepare(settings)
        try:
            model = CrossEncoder(
                str(folder), device=str(self._device), model_kwargs={"dtype": dtype}, local_files_only=True
            )
        except Exception as error:
            raise FatalError(
                f"the cross-encoder {model_name!r} can't be loaded from {folder}: {error}; see `rerank-worker models`"
            ) from error
        _require_reranker(model, model_name)
        self._model = model.model.eval()
        positions = int(getattr(self._model.config, "max_position_embeddings", settings.max_length))
        self._pairs = PairTokenizer(model.tokenizer, min(settings.max_length, positions))
        self._padding = int(model.tokenizer.pad_token_id or 0)
        self._takes_types = "token_type_ids" in model.tokenizer.model_input_names
        self.score(self.encode("warm-up", ["the first pass allocates and compiles"]))

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model_name

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        return self._pairs.encode(query, documents)

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs in one padded forward pass; see ``Scorer``."""
        ids = [pair.input_ids for pair in pairs]
        inputs = {"input_ids": padded(ids, self._padding), "attention_mask": mask(ids)}
        if self._takes_types:
            inputs["token_type_ids"] = padded([pair.token_type_ids for pair in pairs], 0)
        with inference(self._device):
            logits = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
            return numbers(logits[:, 0], self._model_name)


def _require_reranker(model: CrossEncoder, name: str) -> None:
    transformer = model.model
    architectures = getattr(transformer.config, "architectures", None) or [] if transformer is not None else []
    remedy = "set RERANK_WORKER_RERANK__MODEL to a cross-encoder with a single logit"
    if not any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
        # An embedding model loads too: transformers gives it a head of random weights, and it ranks at random.
        raise FatalError(f"{name!r} is not a cross-encoder but {', '.join(architectures) or 'nothing known'}; {remedy}")
    if model.num_labels != 1:
        raise FatalError(f"{name!r} is not a reranker: it has {model.num_labels} outputs, not one; {remedy}")
