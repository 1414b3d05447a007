"""Answers by an LLM behind an OpenAI-compatible chat endpoint."""

from collections.abc import Callable, Sequence

from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletion

from worker.answer.prompt import SYSTEM_PROMPT, read_citations, user_prompt
from worker.domain import Context, GeneratedAnswer, Query, Usage
from worker.errors import TransientError
from worker.resilience.endpoint import Circuit, Endpoint, failure
from worker.resilience.retry import OutageRetry
from worker.settings import AnswerSettings

MAX_REASON_CHARS = 200


class LlmAnswerer:
    """Implements ``Answerer``. Built and used on the loop's thread; ``close`` once."""

    def __init__(
        self,
        settings: AnswerSettings,
        *,
        model: str,
        base_url: str,
        on_circuit: Callable[[bool], None] = lambda _open: None,
    ) -> None:
        """``on_circuit`` is told whenever the circuit to the endpoint opens (true) or closes."""
        self._settings = settings
        self._model = model
        # The client's own retries would multiply ours, and its timeout counts per read, not per answer.
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=settings.api_key.get_secret_value() if settings.api_key else "none",
            max_retries=0,
            timeout=settings.timeout_s,
        )
        self._outage = OutageRetry("LLM", patience_s=settings.patience_s)
        name = f"the LLM {model}"
        self._endpoint = Endpoint(
            name,
            Circuit(name, failures=settings.circuit_failures, retry_s=settings.circuit_retry_s, on_change=on_circuit),
            timeout_s=settings.timeout_s,
            attempts=settings.attempts,
            concurrency=settings.concurrency,
        )

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Ask the LLM; see ``Answerer`` and ``Endpoint.call``. One that is away is waited for, with patience.

        RefusedError if the endpoint takes no request like this one: a wrong key or model shows as degraded answers
        with its text.
        """
        completion = await self._outage.call(query, lambda: self._endpoint.call(lambda: self._ask(query, contexts)))
        text, citations = read_citations(_text(completion), contexts)
        return GeneratedAnswer(text, citations, self._model, _usage(completion))

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _ask(self, query: Query, contexts: Sequence[Context]) -> ChatCompletion:
        try:
            completion = await self._client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": SYSTEM_PROMPT},
                    {"role": "user", "content": user_prompt(query.text, contexts)},
                ],
                max_tokens=self._settings.max_tokens,
                temperature=self._settings.temperature,
            )
        except APIConnectionError as error:
            raise TransientError(f"the LLM endpoint can't be reached: {error}") from error
        except APIStatusError as error:
            text = f"the LLM endpoint answered {error.status_code}: {_first_line(error)}"
            raise failure(error.status_code, error.response.headers, text) from error
        except (APIError, ValueError) as error:
            raise TransientError(f"the LLM endpoint answered something else than a completion: {error}") from error
        if not isinstance(completion, ChatCompletion) or not _text(completion):
            raise TransientError("the LLM endpoint answered without text")
        return completion


def _text(completion: ChatCompletion) -> str:
    choices = completion.choices or []
    return (choices[0].message.content or "").strip() if choices else ""


def _usage(completion: ChatCompletion) -> Usage | None:
    counted = completion.usage
    return None if counted is None else Usage(counted.prompt_tokens, counted.completion_tokens)


def _first_line(error: APIStatusError) -> str:
    return (error.message.splitlines() or [""])[0][:MAX_REASON_CHARS]
