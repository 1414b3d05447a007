"""When a collection is ready to take another's place; the brokers are away here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromadb.api import ClientAPI

from tests.unit.conftest import FakeHashEmbedder
from tests.unit.evaluation.test_overlap import filled
from worker.errors import FatalError
from worker.evaluation import readiness as module
from worker.evaluation.readiness import Readiness, Request, readiness
from worker.local.process import free_port
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.chroma_swap import plan_swap, swap
from worker.settings import KafkaSettings, RecallSettings, Settings

ANOTHER = FakeHashEmbedder("another-model", dimension=8)
Behind = Callable[[int | None], None]
TEXTS = [f"text {number}" for number in range(20)]


@pytest.fixture
def settings(recall_settings: RecallSettings) -> Settings:
    return Settings(
        recall=recall_settings, kafka=KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"), models="offline"
    )


@pytest.fixture
def connection(recall_settings: RecallSettings) -> Iterator[ChromaConnection]:
    connection = ChromaConnection(recall_settings)
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def documents(chroma_client: ClientAPI, embedder: FakeHashEmbedder) -> None:
    filled(chroma_client, "documents", embedder, [(text, text, {}) for text in TEXTS])


@pytest.fixture
def equal(chroma_client: ClientAPI, embedder: FakeHashEmbedder) -> None:
    """`documents-2` has what `documents` has."""
    filled(chroma_client, "documents-2", embedder, [(text, text, {}) for text in TEXTS])


@pytest.fixture
def of_another_model(chroma_client: ClientAPI) -> None:
    """`documents-2` has the texts of `documents`, by another model."""
    filled(chroma_client, "documents-2", ANOTHER, [(text, text, {}) for text in TEXTS])


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Has the brokers say how far the index is behind; None: no group has ever indexed."""

    def say(events: int | None) -> None:
        monkeypatch.setattr(module, "require_reachable", lambda _: None)
        monkeypatch.setattr(module, "lag", lambda _: events)

    return say


def report(
    settings: Settings, connection: ChromaConnection, new: str = "documents-2", name: str = "documents", **asked: object
) -> Readiness:
    models = {each.model_name: each for each in (FakeHashEmbedder(), ANOTHER)}
    request = Request(name, new, **asked)  # type: ignore[arg-type]
    return readiness(settings, connection, request, lambda *_: None, new_embedder=lambda name: models[str(name)])


@pytest.mark.usefixtures("equal")
def test_an_equal_collection_is_ready(settings: Settings, connection: ChromaConnection, behind: Behind) -> None:
    behind(None)
    found = report(settings, connection)
    assert found.ready
    assert found.current is not None
    assert (found.current.documents, found.new.documents, found.new.chunks) == (20, 20, 20)
    assert found.overlap is not None
    assert (found.overlap.mean, found.overlap.questions) == (1.0, 20)
    assert found.behind.group == "rerank-worker-index-documents-2"


@pytest.mark.usefixtures("equal")
def test_a_group_behind_the_topic_is_not_ready_unless_that_is_borne(
    settings: Settings, connection: ChromaConnection, behind: Behind
) -> None:
    behind(12)
    assert report(settings, connection).reasons == [
        "the group 'rerank-worker-index-documents-2' is 12 events behind the topic, more than 0"
    ]
    assert report(settings, connection, max_lag=12).ready


@pytest.mark.usefixtures("equal")
def test_brokers_that_are_away_are_told_and_hang_nothing(settings: Settings, connection: ChromaConnection) -> None:
    [reason] = report(settings, connection).reasons
    assert "is not known: no Kafka broker can be reached" in reason


def test_what_is_missing_and_what_is_found_otherwise_are_reasons(
    settings: Settings,
    connection: ChromaConnection,
    chroma_client: ClientAPI,
    embedder: FakeHashEmbedder,
    behind: Behind,
) -> None:
    behind(0)
    filled(chroma_client, "documents-2", embedder, [(text, text, {}) for text in TEXTS[:10]])
    few, different = report(settings, connection).reasons
    assert few == "'documents-2' has 50% of the documents of 'documents'"
    assert "of the documents they find, less than 80%" in different
    assert report(settings, connection, min_overlap=0.0).reasons == [few]
    make_collection(chroma_client, "documents-3", embedder, top_k=5)
    empty = report(settings, connection, "documents-3")
    assert (empty.reasons, empty.no_overlap) == (["'documents-3' is empty"], "'documents-3' is empty")
    with pytest.raises(FatalError, match="there is no collection 'nowhere'"):
        report(settings, connection, "nowhere")


@pytest.mark.usefixtures("of_another_model")
def test_with_another_model_each_is_asked_with_its_own_and_nothing_is_expected(
    settings: Settings, connection: ChromaConnection, behind: Behind
) -> None:
    behind(0)
    found = report(settings, connection)
    assert found.overlap is not None
    # Beside the text itself the five nearest are unrelated.
    assert found.overlap.mean < 0.8
    assert found.ready
    assert not report(settings, connection, min_overlap=0.8).ready


@pytest.mark.usefixtures("of_another_model")
def test_a_model_that_is_not_here_is_the_reason_why_nothing_was_asked(
    settings: Settings, connection: ChromaConnection, behind: Behind
) -> None:
    behind(0)
    found = readiness(settings, connection, Request("documents", "documents-2"), lambda *_: None)
    assert found.overlap is None
    assert "the embedding model 'fake-hash' is neither a folder here" in str(found.no_overlap)
    assert found.ready


@pytest.mark.usefixtures("equal")
def test_questions_of_a_file_are_asked_and_no_more_than_the_sample(
    settings: Settings, connection: ChromaConnection, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(f'{{"id": {number}, "text": "what is {number}?"}}\n' for number in range(9)))
    found = report(settings, connection, questions=questions, sample=7).overlap
    assert found is not None
    assert found.questions == 7
    assert found.worst[0].text.startswith("what is")
    assert report(settings, connection, sample=0).no_overlap == "no question was to be asked"


@pytest.mark.usefixtures("equal")
def test_what_a_name_leads_to_is_compared_not_its_own_collection(
    settings: Settings,
    connection: ChromaConnection,
    chroma_client: ClientAPI,
    behind: Behind,
) -> None:
    behind(0)
    swap(chroma_client, plan_swap(chroma_client, "documents", "documents-2"))
    there = report(settings, connection)
    assert there.current is not None
    assert there.current.name == "documents-2"
    assert there.no_overlap == "'documents' reads 'documents-2' already"
    back = report(settings, connection, "documents")
    assert back.overlap is not None
    assert back.behind.group == "rerank-worker-index"
    first = report(settings, connection, name="live")
    assert (first.current, first.no_overlap, first.ready) == (None, "'live' reads nothing yet", True)


def test_documents_of_elsewhere_are_not_counted(
    settings: Settings, connection: ChromaConnection, chroma_client: ClientAPI, embedder: FakeHashEmbedder
) -> None:
    elsewhere = make_collection(chroma_client, "elsewhere", embedder, top_k=5)
    elsewhere.upsert(ids=["a"], embeddings=embedder.embed_documents(["a"]), documents=["a"])
    assert report(settings, connection, "elsewhere").new.documents is None
