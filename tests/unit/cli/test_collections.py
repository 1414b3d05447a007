"""`collections` as it is typed; the brokers are away, and Chroma is a folder."""

import json

import pytest
from chromadb.api import ClientAPI
from typer.testing import CliRunner, Result

from tests.unit.conftest import FakeHashEmbedder
from worker.cli.main import app
from worker.errors import FatalError, TransientError
from worker.local.process import free_port
from worker.recall.chroma_collections import make_collection
from worker.recall.pointer import Pointer
from worker.settings import RecallSettings


@pytest.fixture(autouse=True)
def stored(
    chroma_client: ClientAPI,
    recall_settings: RecallSettings,
    embedder: FakeHashEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RERANK_WORKER_RECALL__MODE", "embedded")
    monkeypatch.setenv("RERANK_WORKER_RECALL__PATH", str(recall_settings.path))
    monkeypatch.setenv("RERANK_WORKER_RECALL__FOLLOW_S", "7")
    monkeypatch.setenv("RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    for name in ("documents", "documents-2"):
        make_collection(chroma_client, name, embedder, top_k=5).upsert(
            ids=["a"], embeddings=embedder.embed_documents(["a"]), documents=["a"], metadatas=[{"_hash": "x"}]
        )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["collections", *arguments])


def pointer(client: ClientAPI) -> Pointer:
    return Pointer.of(client.get_collection("documents", embedding_function=None))


def test_a_swap_obeys_its_report_unless_it_is_forced(chroma_client: ClientAPI) -> None:
    refused = run("swap", "documents", "documents-2", "--sample", "0")
    assert refused.exit_code == 1
    assert "not ready: how far the group 'rerank-worker-index-documents-2' is behind" in refused.stdout
    assert "nothing was changed" in refused.stderr
    assert pointer(chroma_client).target is None

    forced = run("swap", "documents", "documents-2", "--sample", "0", "--force")
    assert forced.exit_code == 0
    assert "documents reads documents-2; every worker follows within 7 s (recall.follow_s)" in forced.stdout
    assert pointer(chroma_client).target == "documents-2"

    assert run("swap", "documents", "documents", "--sample", "0", "--force").exit_code == 0
    assert pointer(chroma_client).target is None


def test_a_swap_to_another_model_says_who_reads_what(chroma_client: ClientAPI) -> None:
    another = FakeHashEmbedder("another-model", dimension=8)
    make_collection(chroma_client, "documents-3", another, top_k=5).upsert(
        ids=["a"], embeddings=another.embed_documents(["a"]), documents=["a"]
    )
    said = run("swap", "documents", "documents-3", "--sample", "0", "--force").stdout
    assert "workers of another embedding model than another-model read what they did until restarted" in said


def test_the_list_says_what_each_holds_and_where_it_points() -> None:
    run("swap", "live", "documents-2", "--sample", "0", "--force")
    lines = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert lines == [
        ["collection", "chunks", "embedding model", "points to"],
        ["documents", "1", "fake-hash", "-"],
        ["documents-2", "1", "fake-hash", "-"],
        ["live", "0", "-", "documents-2"],
    ]


def test_a_comparison_as_json_is_the_report_and_its_exit_code_says_whether_it_is_ready() -> None:
    ended = run("compare", "documents", "documents-2", "--json")
    assert ended.exit_code == 1
    report = json.loads(ended.stdout)
    assert (report["ready"], report["current"]["documents"], report["new"]["name"]) == (False, 1, "documents-2")
    # The fake's model is nowhere on this machine.
    assert "'fake-hash'" in report["no_overlap"]


def test_what_can_not_be_swapped_is_told_before_anything_is_compared() -> None:
    ended = run("swap", "documents", "nowhere", "--force")
    assert isinstance(ended.exception, FatalError)
    assert "there is no collection 'nowhere'" in str(ended.exception)
    assert ended.stdout == ""


def test_a_swap_while_chroma_is_away_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_RECALL__MODE", "server")
    monkeypatch.setenv("RERANK_WORKER_RECALL__HOST", "127.0.0.1")
    monkeypatch.setenv("RERANK_WORKER_RECALL__PORT", str(free_port()))
    ended = run("swap", "documents", "documents-2", "--force")
    assert isinstance(ended.exception, TransientError)
    assert "cannot be reached" in str(ended.exception)
