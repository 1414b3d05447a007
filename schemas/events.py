"""The events, as any team that asks or listens sees them.

This contract only grows: within a major version no field is renamed, removed or narrowed. Unknown fields are
ignored when read, so that an older worker understands a newer producer; nothing unknown is ever written. Types are
not guessed: "5" is not 5, and neither Infinity nor NaN is a number, since JSON has no word for them. Long, since the
events are read together.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from schemas import limits
from schemas.limits import MAX_DEADLINE_MS, MAX_ID_CHARS, MAX_TEXT_CHARS, MAX_TOP_K

SCHEMA_VERSION = "1.2"
INVALID_FILTER = "invalid_filter"
"""The kind of pydantic's error for a filter beyond the bounds, and the reason of its dead letter."""


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("has no equivalent in UTC") from error


def _bounded(where: dict[str, JsonValue]) -> dict[str, JsonValue]:
    problem = limits.filter_problem(where)
    if problem is not None:
        raise PydanticCustomError(INVALID_FILTER, "the filter is refused: {problem}", {"problem": problem})
    return where


Scalar = str | int | float | bool
Milliseconds = Annotated[float, Field(ge=0)]
Timestamp = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""Written as RFC 3339 in UTC, whatever the offset it came with."""
Flag = Annotated[bool, Field(strict=True)]
_NULL_TOO = WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, mode="validation")
On = Annotated[Flag, BeforeValidator(lambda value: True if value is None else value), _NULL_TOO]
Off = Annotated[Flag, BeforeValidator(lambda value: False if value is None else value), _NULL_TOO]
"""Null is absent: what many producers write for a field nobody has set."""

_OPERANDS = {"maxItems": limits.MAX_FILTER_OPERANDS}
Filter = Annotated[
    dict[str, JsonValue],
    AfterValidator(_bounded),
    Field(json_schema_extra={"properties": dict.fromkeys(limits.LOGICAL, _OPERANDS)}),
]


class EventModel(BaseModel):
    """What events share: unknown fields are ignored, numbers are finite, what stands under a field describes it."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class QueryEvent(EventModel):
    """A question put to the documents. The Kafka key decides its partition and comes back on the answer."""

    id: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_ID_CHARS, pattern=r"\S")]
    """A UUID or any string of up to 128 characters, unique per question: answers carry it as `query_id`."""
    text: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_TEXT_CHARS, pattern=r"\S")]
    """The question, 1 to 8,192 characters, not only white space."""
    collection: Annotated[str, StringConstraints(strict=True, min_length=3, max_length=512)] | None = None
    """The Chroma collection to search; the worker's default when absent."""
    where: Filter | None = None
    """A Chroma metadata filter, passed on as it is: up to 256 comparisons, 8 `$and` and `$or` within each other, 1,000
    values in its lists, integers of 64 bits."""
    top_k: Annotated[int, Field(strict=True, ge=1, le=MAX_TOP_K)] | None = None
    """How many candidates to recall; the worker's default when absent."""
    top_n: Annotated[int, Field(strict=True, ge=1, le=MAX_TOP_K)] | None = None
    """How many contexts to keep after reranking; the worker's default when absent."""
    min_score: Annotated[float, Field(strict=True)] | None = None
    """Contexts with a lower `rerank_score` are dropped; the worker's default when absent. Scores have the range of the
    worker's reranker: a cross-encoder's are any number, not 0 to 1."""
    generate: On = True
    """False: contexts only, no answer is generated."""
    include_candidates: Off = False
    """True: the answer also lists every candidate with its rank before and after reranking."""
    deadline_ms: Annotated[int, Field(strict=True, ge=1, le=MAX_DEADLINE_MS)] | None = None
    """Milliseconds after the event's Kafka timestamp when nobody waits any more: answered `expired`, unpaid for."""
    metadata: dict[str, JsonValue] | None = None
    """Echoed on the answer, never read."""


class CandidateInfo(EventModel):
    """One recalled document, and what the reranker made of it."""

    document_id: str
    """The document's id in its collection."""
    text: str
    """The document's text."""
    metadata: dict[str, Scalar] = Field(default_factory=dict)
    """The document's metadata in its collection: text, numbers, booleans. Lists of them are left out."""
    recall_rank: Annotated[int, Field(ge=1)]
    """1-based position in recall order."""
    distance: float
    """Distance from the query as the vector store reports it."""
    legs: Annotated[list[Literal["dense", "lexical"]], Field(min_length=1)] | None = None
    """Where the worker recalls by words too: what found it, `dense` (near the question's vector) or `lexical` (the
    question's words in it); null where vectors alone are asked."""
    rerank_rank: Annotated[int, Field(ge=1)]
    """1-based position after reranking."""
    rerank_score: float | None = None
    """What the order rests on: `rerank_logit + prior_weight * cosine similarity`; null if reranking failed."""
    rerank_logit: float | None = None
    """The cross-encoder's raw output; null if reranking failed."""
    rerank_windows: Annotated[int, Field(ge=1)] | None = None
    """How many windows of the text the score comes from; null if reranking failed or the reranker does not say."""
    truncated: bool | None = None
    """True: the text is longer than what the reranker read of it; null if that is not known."""
    window: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    """Of a context that was read in windows: the characters `[from, to)` of the best one, from which the answer is
    made; null: that is all of `text`."""


class ContextInfo(CandidateInfo):
    """A candidate that was kept: what the answer rests on."""


class Usage(EventModel):
    """Tokens the LLM counted for one answer."""

    prompt_tokens: Annotated[int, Field(ge=0)]
    """Tokens read."""
    completion_tokens: Annotated[int, Field(ge=0)]
    """Tokens written."""


class Answer(EventModel):
    """A generated answer and the documents it cites."""

    text: str
    """The answer; `[1]` points to the first entry of `contexts`."""
    citations: list[str] = Field(default_factory=list)
    """Ids of the cited documents, each of them among `contexts`."""
    model: str
    """What wrote it: an LLM's name, or `extractive` and the scorer that chose the sentences."""
    usage: Usage | None = None
    """Token counts, where the model reports them."""
    truncated: Flag = False
    """True: the LLM stopped at its length limit, so the answer is cut."""
    prompt_truncated: Flag = False
    """True: the question or a context was too long for the prompt, so the LLM was shown only its beginning."""


class Timings(EventModel):
    """Where the time went, in milliseconds."""

    queue: Milliseconds
    """From the event's Kafka timestamp until the worker began with it."""
    recall: Milliseconds
    """Embedding the query and searching the collection, waiting for a batch included."""
    rerank: Milliseconds
    """Scoring the candidates, waiting for a micro-batch included."""
    answer: Milliseconds
    """Generating the answer."""
    total: Milliseconds
    """From the event's Kafka timestamp until the answer event was handed to the producer."""


class Models(EventModel):
    """Which models made this answer; a null stage was not used."""

    embedding: str | None = None
    """The model that embedded the query."""
    cross_encoder: str | None = None
    """The model that scored the candidates."""
    prior_weight: float = 0.0
    """Weight of the recall similarity in `rerank_score`."""
    answer: str | None = None
    """The model that wrote the answer."""


class Degradation(EventModel):
    """A stage that failed, and what was published all the same."""

    stage: Literal["recall", "rerank", "answer"]
    """The stage that failed; `recall`, where candidates are found by words too: they were found by vectors alone."""
    reason: str
    """Why, in one line, the same one for a code. What the failed service said is in the worker's log alone."""
    code: str | None = None
    """Why, stable, e.g. `llm_timeout`, `llm_declined`, `reranker_unavailable`, `lexical_missing`; more may be
    added."""


class Failure(EventModel):
    """Why a query could not be answered, for an asker who named a reply topic: what its dead letter says."""

    kind: Literal["poison", "transient"]
    """`poison`: asked again, it fails again; `transient`: retries ran out, so it may do later."""
    code: str
    """Why, stable: the dead letter's `error.class`, e.g. `invalid_schema`, `unknown_collection`; more may be added."""
    reason: str
    """Why, in one line."""


class AnswerStatus(StrEnum):
    """How a query ended."""

    OK = "ok"
    DEGRADED = "degraded"
    NO_CONTEXT = "no_context"
    EXPIRED = "expired"
    FAILED = "failed"


class AnswerEvent(EventModel):
    """What became of one query event. Its Kafka key and its trace headers are the query's."""

    query_id: str
    """The query event's `id`; empty where it could not be read, which only `failed` can tell of."""
    query_text: str
    """The query event's `text`; empty as above."""
    attempt_id: str | None = None
    """Which attempt at the query made it: new each time a worker begins with it. The contexts event that went before,
    if any, has the same. Null from older workers."""
    status: AnswerStatus
    """`ok`; `degraded`: see `degradations`; `no_context`: nothing good enough was found; `expired`: too late; `failed`:
    see `failure`, on the reply topic that the query named and nowhere else: there is a dead letter too."""
    contexts: list[ContextInfo] = Field(default_factory=list)
    """The best candidates after reranking, best first."""
    candidates: list[CandidateInfo] | None = None
    """Every candidate in recall order, if the query asked with `include_candidates`."""
    answer: Answer | None = None
    """Null when not asked for, when there is no context, or when degraded."""
    degradations: list[Degradation] = Field(default_factory=list)
    """Which stages failed, when `status` is `degraded`."""
    failure: Failure | None = None
    """Why there is no answer, when `status` is `failed`."""
    timings_ms: Timings
    """Where the time went."""
    models: Models
    """Which models made it."""
    worker: str
    """The worker process that made it."""
    answered_at: Timestamp
    """When it was made, RFC 3339, UTC."""
    metadata: dict[str, JsonValue] | None = None
    """The query event's `metadata`, unchanged."""
    schema_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of this contract, `major.minor`."""


class DeadLetterInfo(EventModel):
    """Why an event could not be answered: the headers of a dead letter. Its key and value are the original bytes."""

    error_kind: Literal["poison", "transient"]
    """`poison`: could never succeed; `transient`: retries ran out."""
    error_class: str
    """A short stable reason, e.g. `invalid_json`."""
    error_message: str
    """The reason in one line."""
    source_topic: str
    """Topic the event came from."""
    source_partition: Annotated[int, Field(ge=0)]
    """Partition the event came from."""
    source_offset: Annotated[int, Field(ge=0)]
    """Offset of the event."""
    source_timestamp: Timestamp | None = None
    """Kafka timestamp of the event, RFC 3339, UTC."""
    attempts: Annotated[int, Field(ge=1)] = 1
    """How often it was tried."""
