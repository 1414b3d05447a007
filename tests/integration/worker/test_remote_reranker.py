"""The whole worker with a reranker behind HTTP: no cross-encoder is loaded, the endpoint's scores decide."""

import json
from collections.abc import Callable

import pytest

from schemas.events import AnswerStatus, QueryEvent
from tests.fakes.endpoint import fake_endpoint
from tests.patience import HANG_S
from worker.client import QueryClient
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow


def ranking(*scores: float) -> dict[str, object]:
    return {"results": [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]}


def test_the_endpoint_decides_the_order(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> None:
    kafka = kafka_settings()
    with fake_endpoint() as endpoint, QueryClient(kafka) as client:
        # At start two documents are ranked; then the collection's three, the last of recall best.
        endpoint.reply(200, ranking(0.5, 0.5)).reply(200, ranking(0.1, 0.2, 0.9)).reply(500, "down", Retry_After="0")
        worker = start_worker(
            kafka,
            collection,
            RERANK__REMOTE_URL=f"{endpoint.base_url}/v2/rerank",
            RERANK__REMOTE_API_KEY="secret",
            RERANK__MODEL="rerank-v3.5",
        ).await_ready()
        answer = client.ask(QueryEvent(id="well", text="capital of france", generate=False), timeout_s=HANG_S)
        assert answer.status is AnswerStatus.OK
        assert [context.recall_rank for context in answer.contexts] == [3, 2, 1]
        assert [context.rerank_score for context in answer.contexts] == [0.9, 0.2, 0.1]
        assert answer.models.cross_encoder == "rerank-v3.5"

        answer = client.ask(QueryEvent(id="down", text="capital of france", generate=False), timeout_s=HANG_S)
        assert answer.status is AnswerStatus.DEGRADED
        assert [context.recall_rank for context in answer.contexts] == [1, 2, 3]
        assert worker.stop() == 0
        assert "secret" not in worker.log_path.read_text()


def test_a_wrong_key_ends_the_worker_at_start(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable
) -> None:
    with fake_endpoint() as endpoint:
        endpoint.reply(401, {"message": "invalid api token"})
        worker = start_worker(
            kafka_settings(), collection, RERANK__REMOTE_URL=endpoint.base_url, RERANK__MODEL="rerank-v3.5"
        )
        assert await_condition(lambda: worker.ended, timeout_s=HANG_S)
    assert worker.process.returncode == 1
    lines = [json.loads(line) for line in worker.log_path.read_text().splitlines() if line.startswith("{")]
    [reason] = [line["reason"] for line in lines if line["event"] == "the worker ends"]
    assert "answered 401" in reason
