"""The contexts event: what an answer will rest on, for whoever wants to see it before the answer is written."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from schemas.events import SCHEMA_VERSION, ContextInfo, Degradation, EventModel, Milliseconds, Models, Timestamp


class ContextsTimings(EventModel):
    """Where the time went until the contexts were there, in milliseconds."""

    queue: Milliseconds
    """As in the answer event, like the next two."""
    recall: Milliseconds
    """Embedding the query and searching the collection."""
    rerank: Milliseconds
    """Scoring the candidates."""
    total: Milliseconds
    """From the query event's Kafka timestamp until the contexts event was handed to the producer."""


class ContextsEvent(EventModel):
    """What one query's answer will rest on, sent when the answer begins to be written. Key and headers are the query's.

    Best effort: it may be missing, come after the answer, or come again with another `attempt_id` when the query is
    worked on again. The answer event stands alone and repeats it all. None is sent where there is nothing to wait for:
    no context, no answer asked for, expired, dead-lettered.
    """

    query_id: str
    """The query event's `id`."""
    query_text: str
    """The query event's `text`."""
    attempt_id: str
    """Which attempt at the query made it: the answer that rests on these contexts has the same."""
    stage: Literal["contexts"] = "contexts"
    """What tells it from an answer event, for who reads both in one place."""
    contexts: Annotated[list[ContextInfo], Field(min_length=1)]
    """The best candidates after reranking, best first: those of the answer event, numbered as its text cites them."""
    degradations: list[Degradation] = Field(default_factory=list)
    """That reranking failed, if it did: the contexts are in recall order then, without scores."""
    timings_ms: ContextsTimings
    """Where the time went until now."""
    models: Models
    """Which models made it; that of the answer is not known yet."""
    worker: str
    """The worker process that made it."""
    made_at: Timestamp
    """When it was made, RFC 3339, UTC."""
    metadata: dict[str, JsonValue] | None = None
    """The query event's `metadata`, unchanged."""
    schema_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of this contract, `major.minor`."""
