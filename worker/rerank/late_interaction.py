"""Late interaction over an embedding model's token vectors: the scorer for where no cross-encoder can be had.

The score of a pair is MaxSim divided by the query's length: for each token of the query the best cosine among the
document's tokens, and of these the mean (Khattab and Zaharia 2020, arXiv:2004.12832). Query and document are encoded
apart, so a query is encoded once per batch however many documents it has.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers.util import mean_maxsim_pairwise
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer

from worker.errors import FatalError
from worker.models.hub import hide_loading_bars
from worker.rerank.backends.device import Batches, Pending, inference, pending, prepare, suited
from worker.rerank.backends.load import packing_operators
from worker.rerank.backends.packed import PackedEncoder, can_pack
from worker.rerank.pairs.batch import EncodedPair, FlatBatch, Ints
from worker.rerank.pairs.tokenizer import Asked, PairTokenizer
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
        operators = packing_operators(self._device, dtype) if settings.packed and can_pack(model.config) else None
        self._packed = None if operators is None else PackedEncoder(self._model, operators)
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
        """Start two forward passes, of the distinct queries and of the documents; see ``Scorer``."""
        parts = [_apart(pair) for pair in pairs]
        rows: dict[bytes, int] = {}
        mine = [rows.setdefault(query.tobytes(), len(rows)) for query, _ in parts]
        with inference(self._device):
            queries, query_mask = self._vectors([np.frombuffer(row, np.int32) for row in rows])
            documents, document_mask = self._vectors([document for _, document in parts])
            return pending(mean_maxsim_pairwise(queries[mine], documents, query_mask[mine], document_mask))

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs, and wait for it; raises as ``start``."""
        return self.start(pairs)()

    def _vectors(self, rows: Sequence[Ints]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (rows, tokens, dimensions) of length 1 and which of the tokens stand for words."""
        lengths = np.array([len(row) for row in rows], np.int32)
        ids = np.concatenate(rows)
        batch = FlatBatch(ids, np.zeros_like(ids), lengths)
        if self._packed is not None:
            hidden = pad_sequence(list(torch.split(self._packed.all_tokens(batch), lengths.tolist())), batch_first=True)
        else:
            inputs = {"input_ids": batch.padded(ids, self._padding), "attention_mask": torch.from_numpy(batch.mask)}
            hidden = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).last_hidden_state
        words = batch.padded(np.concatenate([_words(row) for row in rows]), 0)
        return normalize(hidden.float(), dim=-1), words.bool().to(self._device)


def _apart(pair: EncodedPair) -> tuple[Ints, Ints]:
    """Return ``[CLS] query [SEP]`` and ``[CLS] document [SEP]`` of the ids of a pair."""
    query = pair.input_ids[: int(pair.token_type_ids.argmax())]
    return query, np.concatenate((query[:1], pair.input_ids[len(query) :]))


def _words(row: Ints) -> Ints:
    # A text of nothing the tokenizer knows is judged by its [CLS] and [SEP]: zero tokens have no mean.
    words = np.ones(len(row), np.int32)
    if len(row) > SPECIAL_TOKENS:
        words[[0, -1]] = 0
    return words
