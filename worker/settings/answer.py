"""Settings of the section `answer`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from worker.settings.fields import Count, Seconds, Section


class AnswerSettings(Section):
    """The LLM behind an OpenAI-compatible chat endpoint."""

    base_url: str | None = None
    """E.g. `https://api.openai.com/v1`; unset: answers are extracted from the contexts instead."""
    api_key: SecretStr | None = None
    """Sent as bearer token."""
    model: str | None = None
    """The name to ask the endpoint for."""
    timeout_s: Seconds = 60.0
    """One answer, retries included."""
    attempts: Count = 3
    """Tries of one answer, at connection errors, 429 and 5xx alone."""
    concurrency: Count = 8
    """Most requests under way at once."""
    max_tokens: Count = 300
    """Length of an answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0: the same contexts give the same answer, as far as the endpoint allows."""
    sentences: Count = 2
    """Sentences of an extractive answer."""
    on_failure: Literal["degrade", "dead_letter"] = "degrade"
    """An LLM that fails: publish the contexts without an answer and say so, or dead-letter the query."""
    patience_s: Annotated[float, Field(ge=0)] = 0.0
    """How long a query waits for an LLM that is away, its partition pausing meanwhile, before `on_failure` holds."""
    circuit_failures: Count = 5
    """Requests in a row that fail before the LLM is left alone."""
    circuit_retry_s: Seconds = 15.0
    """How long it is left alone before one request tries it."""
    store_path: Path | None = None
    """File that keeps the LLM's answers, so that a query delivered again is not paid for again; unset: none is kept. It
    helps the workers that see the file: those of one host, or with the volume it is on."""
    store_ttl_s: Seconds = 86_400.0
    """How long an answer is kept."""
    store_max_answers: Count = 100_000
    """How many are kept, the newest ones."""
