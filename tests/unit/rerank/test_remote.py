"""The real client of a remote reranker against a server that misbehaves as real ones do."""

import asyncio
import json
import re
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.endpoint import FakeEndpoint
from worker.domain import Candidate, Context, Query
from worker.errors import ExpiredError, FatalError, RefusedError, TransientError
from worker.rerank.remote import RemoteReranker
from worker.resilience.endpoint import CircuitOpenError
from worker.settings import RerankSettings

QUERY = Query("q", "Why?", "docs", top_k=20, top_n=3)
CANDIDATES = [Candidate(f"d{rank}", f"passage {rank}", rank, 0.1, similarity=1 / rank) for rank in (1, 2, 3)]


def ranking(*scores: float) -> dict[str, Any]:
    """A response as Cohere gives it: best first, each with the index it was asked under."""
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return {"id": "1", "results": sorted(results, key=lambda result: -result["relevance_score"]), "meta": {}}


def reranker(endpoint: FakeEndpoint, **settings: object) -> RemoteReranker:
    changes = {"model": "rerank-v3.5", "remote_timeout_s": 10, **settings}
    return RemoteReranker(RerankSettings.model_validate(changes), f"{endpoint.base_url}/v2/rerank")


async def rerank(endpoint: FakeEndpoint, candidates: list[Candidate] = CANDIDATES, **settings: object) -> list[Context]:
    remote = reranker(endpoint, **settings)
    try:
        return list(await remote.rerank(QUERY, candidates))
    finally:
        await remote.close()


async def test_candidates_come_back_by_their_scores(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, ranking(0.1, 0.9, 0.5))
    contexts = await rerank(endpoint, remote_api_key="secret")
    assert {(c.windows, c.truncated) for c in contexts} == {(None, None)}, "the endpoint does not say"
    assert [(c.candidate.document_id, c.rerank_rank, c.rerank_score, c.logit) for c in contexts] == [
        ("d2", 1, 0.9, 0.9),
        ("d3", 2, 0.5, 0.5),
        ("d1", 3, 0.1, 0.1),
    ]
    [request] = endpoint.requests
    assert request["authorization"] == "Bearer secret"
    assert request["body"] == {
        "model": "rerank-v3.5",
        "query": "Why?",
        "documents": ["passage 1", "passage 2", "passage 3"],
        "top_n": 3,
    }


async def test_equal_scores_keep_the_order_of_recall_and_a_prior_counts(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, ranking(0.5, 0.5, 0.6))
    assert [c.candidate.recall_rank for c in await rerank(endpoint)] == [3, 1, 2]
    contexts = await rerank(endpoint, prior_weight=1.0)
    assert [c.rerank_score for c in contexts] == pytest.approx([1.5, 1.0, 0.6 + 1 / 3])


async def test_more_fields_go_with_every_request(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, ranking(0.1, 0.9, 0.5))
    await rerank(endpoint, remote_extra_body={"instruction": "Prefer what is recent."})
    [request] = endpoint.requests
    assert request["body"]["instruction"] == "Prefer what is recent."
    assert request["body"]["query"] == "Why?"


async def test_a_query_with_many_documents_takes_several_requests(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, ranking(0.3, 0.2))
    many = [Candidate(f"d{rank}", f"passage {rank}", rank, 0.1) for rank in range(1, 7)]
    contexts = await rerank(endpoint, many, remote_documents=2)
    assert [c.candidate.recall_rank for c in contexts] == [1, 3, 5, 2, 4, 6]
    assert sorted(tuple(request["body"]["documents"]) for request in endpoint.requests) == [
        ("passage 1", "passage 2"),
        ("passage 3", "passage 4"),
        ("passage 5", "passage 6"),
    ]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_endpoint_is_asked_again(endpoint: FakeEndpoint, status: int) -> None:
    endpoint.reply(status, "busy", Retry_After="0").reply(200, ranking(0.1, 0.2, 0.3))
    assert len(await rerank(endpoint)) == 3
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_what_will_not_change_is_not_asked_again_and_is_told_at_start(
    endpoint: FakeEndpoint, status: int
) -> None:
    endpoint.reply(status, {"message": "invalid api token"})
    with pytest.raises(RefusedError, match=f"{status}.*invalid api token"):
        await rerank(endpoint)
    assert len(endpoint.requests) == 1
    remote = reranker(endpoint)
    with pytest.raises(FatalError, match=str(status)):
        await remote.check()
    await remote.close()


BROKEN = {
    "no JSON": ("<html>", "the body: Invalid JSON"),
    "an error with status 200": ({"error": "overloaded"}, "results: Field required"),
    "a score too few": (ranking(0.1, 0.2), "2 scores for 3 documents"),
    "a score too many": (ranking(0.1, 0.2, 0.3, 0.4), "4 scores for 3 documents"),
    "one twice": ({"results": [{"index": 0, "relevance_score": 0.1}] * 3}, "3 scores for 3 documents, or one twice"),
    "an index of nothing": (
        {"results": [{"index": i, "relevance_score": 0.1} for i in (0, 1, -1)]},
        "3 scores for 3 documents",
    ),
    "NaN": (json.dumps(ranking(0.1, 0.2, float("nan"))), "the score of index 2 is no number"),
    "null": ({"results": [{"index": i, "relevance_score": None} for i in range(3)]}, "results.0.relevance_score: "),
    "another name": ({"results": [{"index": i, "score": 0.1} for i in range(3)]}, "results.0.relevance_score: Field"),
}


@pytest.mark.parametrize(("body", "why"), BROKEN.values(), ids=BROKEN.keys())
async def test_garbage_is_no_ranking_and_the_field_is_named(endpoint: FakeEndpoint, body: object, why: str) -> None:
    endpoint.reply(200, body)
    with pytest.raises(TransientError, match=re.escape(why)) as raised:
        await rerank(endpoint, remote_attempts=1)
    assert raised.value.code == "reranker_invalid_response"


async def test_an_endpoint_that_is_not_there_is_transient() -> None:
    with pytest.raises(TransientError, match="can't be reached"):
        await rerank(FakeEndpoint(base_url="http://127.0.0.1:9"), remote_attempts=1)


async def test_a_hanging_endpoint_ends_at_the_deadline_and_is_left_alone(endpoint: FakeEndpoint) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, ranking(0.1, 0.2, 0.3))
    remote = reranker(endpoint, remote_timeout_s=0.3)
    outcomes = await asyncio.gather(*[remote.rerank(QUERY, CANDIDATES) for _ in range(5)], return_exceptions=True)
    assert all(isinstance(outcome, TransientError) for outcome in outcomes)
    with pytest.raises(CircuitOpenError):
        await remote.rerank(QUERY, CANDIDATES)
    endpoint.hold.set()
    await remote.close()


async def test_a_query_whose_deadline_passes_is_waited_for_no_longer(endpoint: FakeEndpoint) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, ranking(0.1, 0.2, 0.3))
    remote = reranker(endpoint, remote_concurrency=1)
    late = replace(QUERY, deadline_s=time.time() + 0.2)
    outcomes = await asyncio.gather(*[remote.rerank(late, CANDIDATES) for _ in range(7)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ExpiredError] * 7
    endpoint.hold.set()
    assert len(await remote.rerank(QUERY, CANDIDATES)) == 3, "late queries tell nothing of the endpoint"
    assert len(endpoint.requests) == 2, "those behind the first were not asked"
    await remote.close()


async def test_requests_of_a_minute_are_bounded(endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, ranking(0.1, 0.2, 0.3))
    remote = reranker(endpoint, remote_requests_per_minute=2, remote_timeout_s=1)
    begun_s = time.monotonic()
    outcomes = await asyncio.gather(*[remote.rerank(QUERY, CANDIDATES) for _ in range(5)], return_exceptions=True)
    # The third may go half a minute later: its query's time is up before.
    assert time.monotonic() - begun_s < 25
    assert sum(isinstance(outcome, TransientError) for outcome in outcomes) == 3
    assert len(endpoint.requests) == 2
    await remote.close()
