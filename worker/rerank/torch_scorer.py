"""A cross-encoder of sentence-transformers, scored batch by batch on one torch device."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count
from sentence_transformers import CrossEncoder

from worker.errors import FatalError, TransientError
from worker.rerank.base import EncodedPair
from worker.settings import RerankSettings
from worker.telemetry.logs import hide_loading_bars

HALF_PRECISION = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchScorer:
    """Implements ``Scorer``. Loading blocks for seconds; warm at once, so that no query pays for the first pass."""

    def __init__(self, folder: Path, model_name: str, settings: RerankSettings) -> None:
        """Load the model. FatalError if it is no cross-encoder with one output, or the device can't do the dtype."""
        hide_loading_bars()
        self._device = choose_device(settings.device)
        self._model_name = model_name
        model_kwargs = {"dtype": choose_dtype(settings.dtype, self._device)}
        if self._device.type == "cpu":
            # Counts what affinity and the container's CPU quota leave: more threads than that take turns and spin.
            torch.set_num_threads(settings.threads or cpu_count())
        try:
            model = CrossEncoder(
                str(folder), device=str(self._device), model_kwargs=model_kwargs, local_files_only=True
            )
        except Exception as error:
            raise FatalError(
                f"the cross-encoder {model_name!r} can't be loaded from {folder}: {error}; see `rerank-worker models`"
            ) from error
        _require_reranker(model, model_name)
        self._model = model.model.eval()
        self._tokenizer: Any = model.tokenizer
        positions = int(getattr(self._model.config, "max_position_embeddings", settings.max_length))
        self._max_length = min(settings.max_length, positions, int(self._tokenizer.model_max_length))
        self.score(self.encode("warm-up", ["the first pass allocates and compiles"]))

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model_name

    def encode(self, query: str, documents: Sequence[str]) -> list[EncodedPair]:
        """Tokenise pairs; see ``Scorer``."""
        if not documents:
            return []
        encoded = self._tokenizer(
            [query] * len(documents),
            list(documents),
            # As CrossEncoder cuts. The longer text gives way: the document, unless the query alone takes more than half
            # the window. `only_second` would keep such a query whole and leave of the document a word, or nothing.
            truncation="longest_first",
            max_length=self._max_length,
            return_token_type_ids=True,
        )
        return [
            EncodedPair(ids, types) for ids, types in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
        ]

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Score pairs in one padded forward pass; see ``Scorer``.

        TransientError where the model yields no number; FatalError when the device is lost. Out of memory is neither:
        fewer pairs may fit, so torch's own error goes to the batcher, which tries the halves.
        """
        longest = max(pair.tokens for pair in pairs)
        padding = int(self._tokenizer.pad_token_id or 0)
        inputs = {
            "input_ids": _padded([pair.input_ids for pair in pairs], longest, padding),
            "token_type_ids": _padded([pair.token_type_ids for pair in pairs], longest, 0),
            "attention_mask": _padded([[1] * pair.tokens for pair in pairs], longest, 0),
        }
        if "token_type_ids" not in self._tokenizer.model_input_names:
            del inputs["token_type_ids"]
        try:
            with torch.inference_mode():
                logits = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
            # One transfer per batch: copying pair by pair would wait for the device once per pair.
            scores: list[float] = logits[:, 0].float().cpu().tolist()
        except torch.AcceleratorError as error:
            # After a CUDA fault every call of this process fails: only a new one gets the device back.
            raise FatalError(f"the device {self._device} is lost: {error}") from error
        if not all(map(math.isfinite, scores)):
            raise TransientError(f"{self._model_name} gave a score that is not a number")
        return scores


def choose_device(name: str) -> torch.device:
    """Return the torch device of a setting; FatalError if this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FatalError(f"RERANK_WORKER_RERANK__DEVICE={name} is not on this machine; set `auto` or `cpu`") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a setting; FatalError for half precision on a CPU, where it is several times slower."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name in HALF_PRECISION and device.type == "cpu":
        raise FatalError(f"RERANK_WORKER_RERANK__DTYPE={name} needs a GPU; set `auto` or `float32`")
    return HALF_PRECISION.get(name, torch.float32)


def _require_reranker(model: CrossEncoder, name: str) -> None:
    transformer = model.model
    architectures = getattr(transformer.config, "architectures", None) or [] if transformer is not None else []
    remedy = "set RERANK_WORKER_RERANK__MODEL to a cross-encoder with a single logit"
    if not any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
        # An embedding model loads too: transformers gives it a head of random weights, and it ranks at random.
        raise FatalError(f"{name!r} is not a cross-encoder but {', '.join(architectures) or 'nothing known'}; {remedy}")
    if model.num_labels != 1:
        raise FatalError(f"{name!r} is not a reranker: it has {model.num_labels} outputs, not one; {remedy}")


def _padded(rows: Sequence[Sequence[int]], length: int, filler: int) -> torch.Tensor:
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows], dtype=torch.long)
