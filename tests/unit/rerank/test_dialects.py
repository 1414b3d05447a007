"""The remote reranker in text-embeddings-inference's dialect, against a server that checks what it is sent.

What both dialects share, and Cohere's, is told in test_remote.py.
"""

import json
import re

import pytest

from tests.fakes.tei import FIELDS, fake_tei
from worker.domain import Candidate, Query
from worker.errors import FatalError, TransientError
from worker.rerank.dialects import DIALECTS
from worker.rerank.remote import RemoteReranker
from worker.settings import RerankSettings

QUERY = Query("q", "kafka consumer groups", "docs", top_k=20, top_n=3)
TEXTS = ["bread rises", "consumer groups share", "kafka consumer groups rebalance"]
CANDIDATES = [Candidate(f"d{rank}", text, rank, 0.1) for rank, text in enumerate(TEXTS, 1)]


def tei_reranker(url: str, **settings: object) -> RemoteReranker:
    changes = {"model": "BAAI/bge-reranker-v2-m3", "remote_dialect": "tei", **settings}
    return RemoteReranker(RerankSettings.model_validate(changes), url)


async def test_candidates_come_back_by_their_logits() -> None:
    with fake_tei(api_key="secret") as tei:
        remote = tei_reranker(tei.url, remote_api_key="secret")
        await remote.check()
        contexts = await remote.rerank(QUERY, CANDIDATES)
        await remote.close()
    assert [(each.candidate.document_id, each.logit) for each in contexts] == [("d3", 6.0), ("d2", 2.0), ("d1", -6.0)]
    assert all(request.keys() <= FIELDS for request in tei.requests), "it has no names for models"


async def test_no_request_has_more_documents_than_a_server_takes_unless_told() -> None:
    many = [Candidate(f"d{rank}", "kafka " * rank, rank, 0.1) for rank in range(1, 71)]
    with fake_tei() as tei:
        remote = tei_reranker(tei.url)
        assert len(await remote.rerank(QUERY, many)) == 70
        await remote.close()
    assert sorted(len(request["texts"]) for request in tei.requests) == [6, 32, 32]


async def test_a_text_that_is_too_long_is_cut_and_not_refused_with_all_the_others() -> None:
    long = Candidate("long", "kafka " + "and so on " * 400, 4, 0.1)
    with fake_tei() as tei:
        remote = tei_reranker(tei.url)
        contexts = await remote.rerank(QUERY, [*CANDIDATES, long])
        await remote.close()
    assert {each.candidate.document_id: each.logit for each in contexts}["long"] == -2.0


async def test_a_server_asked_in_the_others_dialect_is_told_at_start() -> None:
    with fake_tei() as tei:
        remote = tei_reranker(tei.url, remote_dialect="cohere")
        with pytest.raises(FatalError, match=r"422.*missing field `texts`"):
            await remote.check()
        await remote.close()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"results": []}, "the body: "),
        ([{"index": 0, "score": 0.5}], "1 scores for 2 documents"),
        ([{"index": 0, "score": 0.5}, {"index": 1}], "1.score: Field required"),
        ([{"index": 0, "score": 0.5}, {"index": 1, "score": float("nan")}], "the score of index 1 is no number"),
    ],
)
def test_garbage_is_no_ranking_and_the_field_is_named(body: object, why: str) -> None:
    with pytest.raises(TransientError, match=re.escape(why)) as raised:
        DIALECTS["tei"].scores(json.dumps(body).encode(), 2)
    assert raised.value.code == "reranker_invalid_response"
