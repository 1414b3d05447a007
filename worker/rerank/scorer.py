"""The rerank stage's seams: the stage itself, and the scorer it batches for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.domain import Candidate, Context, Query
from worker.rerank.pairs.tokenizer import EncodedPair


@dataclass(frozen=True, slots=True)
class Batches:
    """What batches suit a scorer."""

    padded: bool
    """Whether each pair costs as many tokens as the longest of its batch."""
    tokens: int
    """The budget it does well with where none is set; more only makes queries wait."""


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

    def score(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Return one fp32 logit per pair, in order, from one forward pass. Blocking.

        A pair's logit does not depend on the others (1e-4 in fp32). Never NaN: that is a TransientError. FatalError if
        the device is lost for good; any other error may be due to one pair, and fewer may succeed.
        """
        ...


class Backend(Protocol):
    """Runs a cross-encoder's forward pass: torch, ONNX Runtime or OpenVINO."""

    batches: Batches

    def logits(self, pairs: Sequence[EncodedPair]) -> list[float]:
        """Return one fp32 logit per pair, in order. Blocking, one thread; raises as ``Scorer.score``, NaN apart."""
        ...


class Reranker(Protocol):
    """Orders a query's candidates by a cross-encoder's judgement."""

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        """Return every candidate as a Context, best first, ties in recall order.

        Keeping the best ``top_n`` above ``min_score`` is the pipeline's step, not this one's: the whole
        ranking is what a user asks to see when an answer surprises. Raises TransientError or FatalError.
        """
        ...
