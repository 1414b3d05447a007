"""A reranker behind HTTP, asked in its dialect."""

import asyncio
import time
from collections.abc import Callable, Sequence

import httpx
from aiolimiter import AsyncLimiter

from worker.domain import Candidate, Context, Query
from worker.errors import FatalError, RefusedError, TransientError
from worker.rerank.dialects import DIALECTS
from worker.rerank.ranking import DocumentScore, ranked
from worker.resilience.endpoint import Circuit, Endpoint, failure, without_secrets
from worker.resilience.retry import expiring, on_loop_clock
from worker.settings import RerankSettings

CIRCUIT_FAILURES = 5
CIRCUIT_RETRY_S = 15.0
MAX_REASON_CHARS = 200
SERVICE = "reranker"


class RemoteReranker:
    """Implements ``Reranker``. Built and used on the loop's thread; ``close`` once.

    The protocol has one query per request: what crosses queries is the number of requests under way, not a batch.
    """

    def __init__(
        self,
        settings: RerankSettings,
        url: str,
        *,
        on_failure: Callable[[str], None] = lambda _code: None,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        """``on_failure``: see ``Endpoint``."""
        self._settings = settings
        self._unix_time_s = unix_time_s
        self._dialect = DIALECTS[settings.remote_dialect]
        self._url = url
        key = settings.remote_api_key
        self._secrets = [] if key is None else [key]
        self._client = httpx.AsyncClient(
            headers={} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"},
            timeout=settings.remote_timeout_s,
        )
        rate = settings.remote_requests_per_minute
        # Not the whole address: it may carry a password.
        self._name = f"the reranker at {httpx.URL(url).host}"
        self._endpoint = Endpoint(
            self._name,
            Circuit(self._name, failures=CIRCUIT_FAILURES, retry_s=CIRCUIT_RETRY_S, service=SERVICE),
            service=SERVICE,
            timeout_s=settings.remote_timeout_s,
            attempts=settings.remote_attempts,
            concurrency=settings.remote_concurrency,
            limiter=None if rate is None else AsyncLimiter(rate, 60),
            on_failure=on_failure,
        )

    @property
    def gives_logits(self) -> bool:
        """Whether its scores are any number; else they lie between 0 and 1."""
        return self._dialect.gives_logits

    async def check(self) -> None:
        """Have two documents ranked: a wrong address, key or model is told at start. FatalError or TransientError."""
        probe = [Candidate(str(rank), text, rank, distance=0.0) for rank, text in enumerate(("warm", "up"), 1)]
        try:
            await self.rerank(Query("warm-up", "warm-up", "", top_k=2, top_n=2), probe)
        except RefusedError as error:
            raise FatalError(str(error)) from error

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        """Have the candidates scored and order them; see ``Reranker`` and ``Endpoint.call``.

        ExpiredError at the query's deadline: requests that wait are not made, those under way not waited for.
        """
        deadline_s = on_loop_clock(query, unix_now_s=self._unix_time_s())
        texts = [candidate.text for candidate in candidates]
        size = self._settings.remote_documents or self._dialect.documents
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        try:
            async with expiring(deadline_s, "rerank"), asyncio.TaskGroup() as asking:
                asked = [asking.create_task(self._score(query.text, part, deadline_s)) for part in parts]
        except ExceptionGroup as failed:
            # One part that fails ends the others; why it did is what counts.
            raise failed.exceptions[0] from None
        # What the endpoint read of a document that is too long for it, it does not say.
        scores = [DocumentScore(score) for part in asked for score in part.result()]
        return ranked(candidates, scores, prior_weight=self._settings.prior_weight)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _score(self, query: str, documents: Sequence[str], deadline_s: float | None) -> list[float]:
        return await self._endpoint.call(lambda: self._ask(query, documents), deadline_s=deadline_s)

    async def _ask(self, query: str, documents: Sequence[str]) -> list[float]:
        body = self._dialect.body(self._settings.model, query, documents) | self._settings.remote_extra_body
        try:
            response = await self._client.post(self._url, json=body)
        except httpx.HTTPError as error:
            raise TransientError(f"{self._name} can't be reached: {error!r}", code="reranker_unavailable") from error
        if not response.is_success:
            said = without_secrets(response.text, self._secrets)[:MAX_REASON_CHARS]
            text = f"{self._name} answered {response.status_code}: {said!r}"
            raise failure(response.status_code, response.headers, text, service=SERVICE)
        return self._dialect.scores(response.content, len(documents))
