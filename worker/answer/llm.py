"""Answers by an LLM behind an OpenAI-compatible chat endpoint."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI

from worker.answer.completion import Completion, quoted, read_completion
from worker.answer.prompt import Prompt, read_citations
from worker.domain import Context, GeneratedAnswer, Query
from worker.errors import RefusedError, TransientError
from worker.resilience.endpoint import Circuit, Endpoint, failure, without_secrets
from worker.resilience.retry import OutageRetry, on_loop_clock
from worker.settings import AnswerSettings

SERVICE = "llm"


class LlmAnswerer:
    """Implements ``Answerer``. Built and used on the loop's thread; ``close`` once."""

    def __init__(
        self,
        settings: AnswerSettings,
        *,
        model: str,
        base_url: str,
        on_circuit: Callable[[bool], None] = lambda _open: None,
        on_failure: Callable[[str], None] = lambda _code: None,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        """``on_circuit`` is told whenever the circuit to the endpoint opens (true) or closes.

        ``on_failure``: see ``Endpoint``.
        """
        self._settings = settings
        self._model = model
        self._unix_time_s = unix_time_s
        self._secrets = [*settings.headers.values(), *([settings.api_key] if settings.api_key else [])]
        # The client's own retries would multiply ours, and its timeout counts per read, not per answer.
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=settings.api_key.get_secret_value() if settings.api_key else "none",
            default_headers={name: value.get_secret_value() for name, value in settings.headers.items()},
            max_retries=0,
            timeout=settings.timeout_s,
        )
        self._outage = OutageRetry("LLM", patience_s=settings.patience_s, unix_time_s=unix_time_s)
        name = f"the LLM {model}"
        circuit = Circuit(
            name,
            failures=settings.circuit_failures,
            retry_s=settings.circuit_retry_s,
            service=SERVICE,
            on_change=on_circuit,
        )
        self._endpoint = Endpoint(
            name,
            circuit,
            service=SERVICE,
            timeout_s=settings.timeout_s,
            attempts=settings.attempts,
            concurrency=settings.concurrency,
            on_failure=on_failure,
        )

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Ask the LLM; see ``Answerer`` and ``Endpoint.call``. One that is away is waited for, with patience.

        RefusedError if the endpoint takes no request like this one (a wrong key or model) or the model gives no answer
        to it. ExpiredError at the query's deadline: a request that waits is not made, one under way is broken off.
        """
        prompt = Prompt.of(query.text, contexts, self._settings)
        deadline_s = on_loop_clock(query, unix_now_s=self._unix_time_s())
        completion = await self._outage.call(
            query, lambda: self._endpoint.call(lambda: self._ask(prompt), deadline_s=deadline_s)
        )
        text, citations = read_citations(completion.text, contexts)
        if not text:
            raise RefusedError("the LLM answered with citations that point nowhere alone", code="llm_no_answer")
        return GeneratedAnswer(
            text,
            citations,
            self._model,
            completion.usage,
            truncated=completion.cut,
            prompt_truncated=prompt.truncated,
        )

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _ask(self, prompt: Prompt) -> Completion:
        try:
            # The bytes, since the client's own reading trusts what servers send: of a `usage` or a `message` that is
            # not as OpenAI's, it makes objects without the attributes their types promise.
            body = await self._client.post("/chat/completions", body=self._body(prompt), cast_to=bytes)
        except APIConnectionError as error:
            raise TransientError(f"the LLM endpoint can't be reached: {error}", code="llm_unavailable") from error
        except APIStatusError as error:
            said = quoted(without_secrets(error.message, self._secrets))
            text = f"the LLM endpoint answered {error.status_code}: {said}"
            raise failure(error.status_code, error.response.headers, text, service=SERVICE) from error
        except (APIError, ValueError) as error:
            raise TransientError(
                f"the LLM endpoint answered something else than a completion: {error}", code="llm_invalid_response"
            ) from error
        try:
            return read_completion(body)
        except TransientError as error:
            error.args = (without_secrets(str(error), self._secrets),)
            raise

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {"model": self._model, "messages": prompt.messages, **settings.extra_body}
        if settings.max_tokens_field != "none":
            body[settings.max_tokens_field] = settings.max_tokens
        if settings.temperature != "none":
            body["temperature"] = settings.temperature
        return body
