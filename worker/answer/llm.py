"""Answers by an LLM behind an OpenAI-compatible chat endpoint."""

import asyncio
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

import structlog
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletion
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from worker.answer.circuit import Circuit, CircuitOpenError
from worker.answer.prompt import SYSTEM_PROMPT, read_citations, user_prompt
from worker.errors import RefusedError, TransientError
from worker.settings import AnswerSettings
from worker.types import Context, GeneratedAnswer, Query, Usage

logger = structlog.get_logger()

LONGEST_PAUSE_S = 10.0
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


class LlmAnswerer:
    """Implements ``Answerer``. The endpoint is asked ``concurrency`` times at once at most, and not while it fails."""

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
        self._circuit = Circuit(
            failures=settings.circuit_failures, retry_s=settings.circuit_retry_s, on_change=on_circuit
        )
        # The client's own retries would multiply ours, and its timeout counts per read, not per answer.
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=settings.api_key.get_secret_value() if settings.api_key else "none",
            max_retries=0,
            timeout=settings.timeout_s,
        )
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._jittered = wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_S)

    @property
    def model_name(self) -> str:
        """The name answers carry."""
        return self._model

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Ask the LLM; see ``Answerer``. All tries, pauses and the wait for a slot end within ``timeout_s``.

        RefusedError if the endpoint takes no request like this one (4xx: a wrong key or model).
        """
        deadline_s = asyncio.get_running_loop().time() + self._settings.timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise self._late() from error
        try:
            completion = await self._ask_until(deadline_s, query, contexts)
        finally:
            self._slots.release()
        text, citations = read_citations(_text(completion), contexts)
        return GeneratedAnswer(text, citations, self._model, _usage(completion))

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _ask_until(self, deadline_s: float, query: Query, contexts: Sequence[Context]) -> ChatCompletion:
        loop = asyncio.get_running_loop()

        def used_up(state: RetryCallState) -> bool:
            tries = state.attempt_number >= self._settings.attempts
            return tries or loop.time() + state.upcoming_sleep >= deadline_s

        retrying = AsyncRetrying(
            stop=used_up,
            wait=self._pause_s,
            retry=retry_if_exception(_worth_another_try),
            before_sleep=_log_retry,
            reraise=True,
        )
        completion: ChatCompletion = await retrying(self._try_once, deadline_s, query, contexts)
        return completion

    async def _try_once(self, deadline_s: float, query: Query, contexts: Sequence[Context]) -> ChatCompletion:
        async with self._circuit.request():
            try:
                # Inside the circuit, so that silence counts as failure and a query that is cancelled does not.
                async with asyncio.timeout_at(deadline_s):
                    return await self._ask(query, contexts)
            except TimeoutError as error:
                raise self._late() from error

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
            # 4xx but 429 will be the same next time: a wrong key or model shows as degraded answers with this text.
            busy = error.status_code == TOO_MANY_REQUESTS or error.status_code >= SERVER_ERROR
            kind = TransientError if busy else RefusedError
            raise kind(
                f"the LLM endpoint answered {error.status_code}: {_first_line(error)}",
                retry_after_s=_retry_after_s(error),
            ) from error
        except (APIError, ValueError) as error:
            raise TransientError(f"the LLM endpoint answered something else than a completion: {error}") from error
        if not isinstance(completion, ChatCompletion) or not _text(completion):
            raise TransientError("the LLM endpoint answered without text")
        return completion

    def _late(self) -> TransientError:
        return TransientError(f"the LLM {self._model} gave no answer within {self._settings.timeout_s:g} s")

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, TransientError) else None
        return self._jittered(state) if asked is None else asked


def _text(completion: ChatCompletion) -> str:
    choices = completion.choices or []
    return (choices[0].message.content or "").strip() if choices else ""


def _usage(completion: ChatCompletion) -> Usage | None:
    counted = completion.usage
    return None if counted is None else Usage(counted.prompt_tokens, counted.completion_tokens)


def _retry_after_s(error: APIStatusError) -> float | None:
    """Read ``Retry-After``: seconds or an HTTP date (RFC 9110, 10.2.3); None without it, or if it is neither."""
    asked = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, RefusedError | CircuitOpenError)


def _first_line(error: APIStatusError) -> str:
    return (error.message.splitlines() or [""])[0][:200]


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.info("retrying the LLM", attempt=state.attempt_number, reason=str(error))
