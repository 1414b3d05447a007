"""An evaluation against a real Chroma server, of a corpus that is indexed for it, and of answers on a real broker."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.fakes.model import save_model
from tests.patience import HANG_S
from worker.documents.files.ingest import ingest
from worker.documents.samples import corpus
from worker.errors import PoisonError, TransientError, WorkerError
from worker.evaluation.evaluate import Request, evaluate
from worker.evaluation.report import Report
from worker.local.chroma import LocalChroma
from worker.settings import KafkaSettings, RecallSettings, RerankSettings, Settings

pytestmark = pytest.mark.slow

SAMPLES = Path(corpus.__file__).parent
QUESTIONS = SAMPLES / "questions.jsonl"
COLLECTION = "evaluated"
ANSWER = json.loads((Path(__file__).parents[3] / "schemas/examples/answer-event.ok.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def settings(chroma_server: LocalChroma, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The sample corpus on the server; a cross-encoder with random weights."""
    folder = save_model(tmp_path_factory.mktemp("models") / "tiny", outputs=1)
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection=COLLECTION)
    rerank = RerankSettings(model=str(folder), device="cpu", max_length=64)
    settings = Settings(models="offline", recall=recall, rerank=rerank)
    ingest(corpus.documents(), settings=settings)
    return settings


def evaluated(settings: Settings, request: Request) -> Report:
    return evaluate(settings, request, lambda *_: None)


def test_a_random_model_is_harmful_to_a_real_collection(settings: Settings) -> None:
    report = evaluated(settings, Request(queries=QUESTIONS, top_ks=[5, 20]))
    [random] = report.reranked
    assert random.verdict.outcome == "harmful"
    assert report.recall.values["nDCG@10"] > 0.6
    assert random.values["nDCG@10"] < 0.4
    assert (report.answerable, report.unanswerable) == (49, 8)
    few, many = random.grid
    assert few.recall < many.recall <= 1
    assert (few.pairs, many.pairs) == (5, 20)
    assert few.timed == 50
    assert many.timed == 57


def test_a_corpus_is_indexed_for_the_occasion_and_recalled_as_the_collection_is(settings: Settings) -> None:
    request = Request(queries=QUESTIONS, top_ks=[10], limit=10)
    there = evaluated(settings, request)
    elsewhere = settings.model_copy(update={"recall": settings.recall.model_copy(update={"port": 9})})
    here = evaluated(elsewhere, replace(request, corpus=[SAMPLES / "corpus.jsonl"], cosine=True))
    # The collection's own order is the embedding model's: reranking by it changes nothing but ties.
    cosine = here.reranked[0]
    assert cosine.values["nDCG@10"] == pytest.approx(here.recall.values["nDCG@10"], abs=0.01)
    assert cosine.verdict.outcome == "not shown"
    assert here.recall.values["nDCG@10"] == pytest.approx(there.recall.values["nDCG@10"], abs=0.02)
    assert here.source == "corpus.jsonl"
    assert there.source == f"the collection {COLLECTION}"


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"collection": "missing"}, TransientError, "'missing'.*does not exist"),
        ({"port": 9, "attempts": 1}, TransientError, ":9"),
    ],
)
def test_a_store_or_a_collection_that_is_away_is_told_and_not_waited_for(
    settings: Settings, changes: dict[str, object], kind: type[WorkerError], said: str
) -> None:
    away = settings.model_copy(update={"recall": settings.recall.model_copy(update=changes)})
    with pytest.raises((kind, PoisonError), match=said):
        evaluated(away, Request(queries=QUESTIONS, top_ks=[10]))


def test_answers_on_the_topic_are_evaluated_as_they_were_reranked(
    kafka_settings: Callable[..., KafkaSettings], tmp_path: Path
) -> None:
    kafka = kafka_settings()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(kafka.answer_topic, b"somebody else's", partition=0)
    for number in range(6):
        right = {"document_id": "right", "recall_rank": 3, "rerank_rank": 1, "rerank_score": 5.0}
        others = [
            {"document_id": f"wrong{rank}", "recall_rank": rank, "rerank_rank": rank + 1, "rerank_score": -float(rank)}
            for rank in (1, 2)
        ]
        answer = ANSWER | {
            "query_id": f"asked-{number}",
            "query_text": f"question {number}",
            "candidates": [ANSWER["contexts"][0] | each for each in (*others, right)],
        }
        producer.produce(kafka.answer_topic, json.dumps(answer).encode(), partition=number % kafka.partitions)
    producer.produce(kafka.answer_topic, json.dumps(ANSWER | {"candidates": None}).encode())
    assert producer.flush(HANG_S) == 0
    queries, qrels = tmp_path / "queries.tsv", tmp_path / "qrels.txt"
    queries.write_text("".join(f"{number}\tquestion {number}\n" for number in range(6)))
    qrels.write_text("".join(f"{number} 0 right 1\n" for number in range(6)))
    report = evaluated(
        Settings(kafka=kafka), Request(queries=queries, qrels=qrels, from_topic=True, top_ns=[1, 3], top_ks=[3])
    )
    [answered] = report.reranked
    assert answered.name == f"{ANSWER['models']['cross_encoder']} (as answered)"
    assert report.recall.values["RR@10"] == pytest.approx(1 / 3)
    assert answered.values["RR@10"] == 1.0
    assert answered.grid[-1].mean_ms == pytest.approx(ANSWER["timings_ms"]["rerank"])
    assert answered.verdict.outcome == "worth it"
    assert report.source == f"the topic {kafka.answer_topic}"
