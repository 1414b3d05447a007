"""Late interaction over an embedding model's token vectors: the scorer for where no cross-encoder can be had.

The score of a pair is MaxSim divided by the query's length: for each token of the query the best cosine among the
document's tokens, and of these the mean (Khattab and Zaharia 2020, arXiv:2004.12832). Query and document are encoded
apart, so a query is encoded once per batch however many documents it has.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers.util import mean_maxsim_pairwise
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer

from worker.errors import FatalError
from worker.models.hub import hide_loading_bars
from worker.rerank.backends.device import Batches, inference, moved, prepare, suited
from worker.rerank.backends.packed_cpu import PackedEncoder, can_pack
from worker.rerank.pairs.batch import mask, padded
from worker.rerank.pairs.tokenizer import EncodedPair, PairTokenizer
from worker.rerank.ranking import finite
from worker.settings import RerankSettings

SPECIAL_TOKENS = 2


class LateInteractionScorer:
    """Implements ``Scorer``; scores lie between -1 and 1. Loading blocks for seconds; warm at once."""

    def __init__(self, folder: Path, model_name: str, settings: RerankSettings) -> None:
        """Load a BERT-like embedding model. FatalError if that fails, or the device can't do the dtype."""
        hide_loading_bars()
        self._model_name = model_name
        self._device, dtype = prepare(settings)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=dtype)
        except Exception as error:
            raise FatalError(f"the embedding model {model_name!r} can't be loaded from {folder}: {error}") from error
        self._model = model.to(self._device).eval()
        self._packed = PackedEncoder(self._model) if settings.packed and can_pack(model.config, self._device) else None
        positions = int(model.config.max_position_embeddings)
        self._pairs = PairTokenizer(tokenizer, min(settings.max_length, positions), settings)
        self._padding = int(tokenizer.pad_token_id or 0)
        finite(self.score(self.encode("warm-up", ["the first pass allocates and compiles"])), model_name)

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model_name

    @property
    def batches(self) -> Batches:
        """What batches suit it."""
        return suited(self._device, padded=self._packed is None)

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        return self._pairs.encode(query, documents)

    def spans(self, documents: Sequence[str], windows: Sequence[range]) -> list[tuple[int, int]]:
        """Find windows of tokens in their texts; see ``Scorer``."""
        return self._pairs.spans(documents, windows)

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs in two padded forward passes, of the distinct queries and of the documents; see ``Scorer``."""
        parts = [_apart(pair) for pair in pairs]
        rows: dict[tuple[int, ...], int] = {}
        mine = [rows.setdefault(query, len(rows)) for query, _ in parts]
        with inference(self._device):
            queries, query_mask = self._vectors(list(rows))
            documents, document_mask = self._vectors([document for _, document in parts])
            scores = mean_maxsim_pairwise(queries[mine], documents, query_mask[mine], document_mask)
            return moved(scores)

    def _vectors(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (rows, tokens, dimensions) of length 1 and which of the tokens stand for words."""
        if self._packed is not None:
            hidden = pad_sequence(self._packed.all_tokens(rows, [[0] * len(row) for row in rows]), batch_first=True)
        else:
            inputs = {"input_ids": padded(rows, self._padding), "attention_mask": mask(rows)}
            hidden = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).last_hidden_state
        return normalize(hidden.float(), dim=-1), padded([_words(row) for row in rows], 0).bool().to(self._device)


def _apart(pair: EncodedPair) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return ``[CLS] query [SEP]`` and ``[CLS] document [SEP]`` of the ids of a pair."""
    query = tuple(pair.input_ids[: pair.token_type_ids.index(1)])
    return query, (query[0], *pair.input_ids[len(query) :])


def _words(row: Sequence[int]) -> list[int]:
    # A text of nothing the tokenizer knows is judged by its [CLS] and [SEP]: zero tokens have no mean.
    words = len(row) - SPECIAL_TOKENS
    return [0, *[1] * words, 0] if words else [1] * len(row)
