"""Answers by an LLM behind an OpenAI-compatible chat endpoint."""

import asyncio
from collections.abc import Sequence

import structlog
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletion
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from worker.answer.prompt import SYSTEM_PROMPT, read_citations, user_prompt
from worker.errors import TransientError
from worker.settings import AnswerSettings
from worker.types import Context, GeneratedAnswer, Query, Usage

logger = structlog.get_logger()

LONGEST_PAUSE_S = 10.0
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


class _RetryableError(TransientError):
    """Worth another try at once; any other TransientError is not."""


class LlmAnswerer:
    """Implements ``Answerer``. The endpoint is asked ``concurrency`` times at once at most."""

    def __init__(self, settings: AnswerSettings, *, model: str, base_url: str) -> None:
        self._settings = settings
        self._model = model
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
        """Ask the LLM; see ``Answerer``. All tries, pauses and the wait for a slot end within ``timeout_s``."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._settings.attempts),
            wait=self._pause_s,
            retry=retry_if_exception_type(_RetryableError),
            before_sleep=_log_retry,
            reraise=True,
        )
        try:
            async with asyncio.timeout(self._settings.timeout_s), self._slots:
                completion: ChatCompletion = await retrying(self._ask, query, contexts)
        except TimeoutError as error:
            raise TransientError(
                f"the LLM {self._model} gave no answer within {self._settings.timeout_s:g} s"
            ) from error
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
            raise _RetryableError(f"the LLM endpoint can't be reached: {error}") from error
        except APIStatusError as error:
            # 4xx but 429 will be the same next time: a wrong key or model shows as degraded answers with this text.
            busy = error.status_code == TOO_MANY_REQUESTS or error.status_code >= SERVER_ERROR
            kind = _RetryableError if busy else TransientError
            raise kind(
                f"the LLM endpoint answered {error.status_code}: {_first_line(error)}",
                retry_after_s=_retry_after_s(error),
            ) from error
        except (APIError, ValueError) as error:
            raise _RetryableError(f"the LLM endpoint answered something else than a completion: {error}") from error
        if not isinstance(completion, ChatCompletion) or not _text(completion):
            raise _RetryableError("the LLM endpoint answered without text")
        return completion

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
    # The HTTP-date form is rare among LLM endpoints; without a number our own backoff applies.
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except ValueError:
        return None


def _first_line(error: APIStatusError) -> str:
    return (error.message.splitlines() or [""])[0][:200]


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.info("retrying the LLM", attempt=state.attempt_number, reason=str(error))
