"""What travels between the stages: plain frozen data, no behaviour, no third-party types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Metadata = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Query:
    """A query event with every default filled in: what the stages work on."""

    id: str
    text: str
    collection: str
    top_k: int
    top_n: int
    where: Mapping[str, Any] | None = None
    min_score: float | None = None
    generate: bool = True
    include_candidates: bool = False
    asked_at_s: float = 0.0
    """Unix time of the query event's Kafka timestamp, in seconds."""
    deadline_s: float | None = None
    """Unix time after which nobody waits for the answer any more, in seconds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One document recalled for a query."""

    document_id: str
    text: str
    recall_rank: int
    """1-based position in recall order."""
    distance: float
    """As the vector store reports it, in the collection's own space."""
    similarity: float | None = None
    """Cosine similarity in [-1, 1] where the collection's space allows it to be known, else None."""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """A candidate the reranker has judged."""

    candidate: Candidate
    rerank_rank: int
    """1-based position after reranking."""
    rerank_score: float | None
    """``logit + prior_weight * similarity``; None when the reranker failed and recall order was kept."""
    logit: float | None
    """The cross-encoder's raw fp32 output; None as above."""
    windows: int | None = None
    """How many windows of the document the score comes from; None as above, or when the reranker does not say."""
    truncated: bool | None = None
    """Words of the document were not read; None as above."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens the LLM billed for one answer."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """What the answer stage made from the contexts."""

    text: str
    citations: Sequence[str]
    """Document ids of the contexts the text cites, in order of first citation, without repeats."""
    model: str
    usage: Usage | None = None
