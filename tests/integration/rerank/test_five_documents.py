"""Five documents and one question: the example this project began with, ranked by the real offline cross-encoder."""

from collections.abc import AsyncIterator, Sequence

import pytest

from worker.domain import Candidate, Context, Query
from worker.models.resolve import resolve
from worker.query.pipeline import keep
from worker.rerank.scorer import load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import Settings

pytestmark = pytest.mark.slow

QUESTION = "What permissions does Debezium need on MySQL?"
# In the order in which a vector store may well recall them: by the words they share.
DOCUMENTS = {
    "configuration": "A Debezium MySQL connector is configured with the host, port, user and password of the database.",
    "kafka": "Kafka keeps the records of a topic in partitions, which the consumers of a group share among themselves.",
    "binlog": "Debezium reads the changes of a MySQL server from its binlog, which must be in row format.",
    "permissions": (
        "On MySQL Debezium's user needs SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE and REPLICATION CLIENT."
    ),
    "snapshot": "On its first start Debezium takes a snapshot of the MySQL tables before it follows the changes.",
}
CANDIDATES = [Candidate(name, text, rank, distance=0.0) for rank, (name, text) in enumerate(DOCUMENTS.items(), start=1)]


@pytest.fixture
async def ranking() -> AsyncIterator[Sequence[Context]]:
    settings = Settings(models="offline")
    model = resolve("cross-encoder", settings)
    scorer = load_scorer(model, settings.rerank, settings.cache_dir)
    reranker = MicroBatchedReranker(scorer, settings.rerank, prior_weight=0.0, on_batch=lambda _report: None)
    query = Query("q", QUESTION, "documents", top_k=5, top_n=5, min_score=model.min_score)
    yield keep(await reranker.rerank(query, CANDIDATES), query)
    await reranker.close()


async def test_what_answers_comes_first_and_what_is_about_something_else_is_dropped(ranking: Sequence[Context]) -> None:
    kept = [context.candidate.document_id for context in ranking]
    assert kept[0] == "permissions"
    assert "kafka" not in kept
    assert {"binlog", "configuration"} <= set(kept), "the others about Debezium on MySQL are kept, behind it"
