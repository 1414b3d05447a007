"""What travels between the stages, and what each stage promises: plain frozen data and protocols, nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
"""What a call takes many of, and what it returns: the names of every generic function here."""

Metadata = Mapping[str, str | int | float | bool]
Leg = Literal["dense", "lexical"]
"""What finds candidates: by vectors that are near, or by words that are the same."""


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
    legs: tuple[Leg, ...] | None = None
    """Which of several legs found it; None where there is one alone."""


class Recalled(list[Candidate]):
    """A query's candidates in recall order, and what had to be done without to find them."""

    def __init__(self, candidates: Iterable[Candidate] = (), *, lacks: str | None = None) -> None:
        """``lacks``: the stable code of why a leg found nothing."""
        super().__init__(candidates)
        self.lacks = lacks


class Context(NamedTuple):
    """A candidate the reranker has judged. A tuple, for every query makes 20, and a frozen dataclass takes thrice."""

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
    window: tuple[int, int] | None = None
    """Which characters of a long document its best window covers, end excluded; None: the document is not long, or not
    among the best."""

    @property
    def judged_text(self) -> str:
        """The part of the text that speaks for it: the best window of a long document, else all of it."""
        return self.candidate.text if self.window is None else self.candidate.text[slice(*self.window)]


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
    truncated: bool = False
    """The LLM stopped at its length: the text is cut."""
    prompt_truncated: bool = False
    """The LLM was shown only a part of the question or of a context's judged text."""


class Recall(Protocol):
    """The recall stage: finds a query's candidates in the vector store."""

    async def recall(self, query: Query) -> Recalled:
        """Return at most ``query.top_k`` candidates, best first; empty if the collection has none.

        Raises PoisonError (``unknown_collection``; ``invalid_filter``; ``incompatible_collection``: the query names
        one built with another model), TransientError (the store cannot be reached or timed out) or FatalError
        (the worker's own default collection was built with another model, or the store refuses the credentials).
        Cancelling the call takes the query out of a batch that has not started.
        """
        ...


class Reranker(Protocol):
    """The rerank stage: orders a query's candidates by a cross-encoder's judgement."""

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        """Return every candidate as a Context, best first, ties in recall order.

        Keeping the best ``top_n`` above ``min_score`` is the pipeline's step, not this one's: the whole
        ranking is what a user asks to see when an answer surprises. Raises TransientError or FatalError.
        """
        ...


class Answerer(Protocol):
    """The answer stage: answers a query from its contexts, and from nothing else."""

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        ...

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Answer from ``contexts`` (never empty).

        Raises TransientError after its own retries (ExpiredError: the query's deadline passed first), or FatalError.
        """
        ...
