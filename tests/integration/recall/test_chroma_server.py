"""What recall does when the Chroma server is there, hangs, dies and comes back. Real server, fake vectors."""

import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from chromadb.api import ClientAPI

from worker.domain import Query
from worker.errors import PoisonError, TransientError
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection, StoreLostError
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import Vectors
from worker.settings import RecallSettings

pytestmark = pytest.mark.slow


class FakeLengthEmbedder:
    """Points on a circle, by the text's length."""

    model_name = "fake-length"
    dimension = 2

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        angles = [len(text) / 10 for text in texts]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    embed_documents = embed_queries


def soon() -> float:
    return time.monotonic() + 30


def query(text: str, **fields: object) -> Query:
    return Query(**({"id": text, "text": text, "collection": "documents", "top_k": 3, "top_n": 1} | fields))


def fill(connection: ChromaConnection, name: str = "documents") -> None:
    texts = ["x" * length for length in range(1, 9)]

    def write(client: ClientAPI) -> None:
        embedder = FakeLengthEmbedder()
        make_collection(client, name, embedder, top_k=5).upsert(
            ids=texts,
            documents=texts,
            embeddings=embedder.embed_documents(texts),
            metadatas=[{"even": len(text) % 2 == 0} for text in texts],
        )

    connection.run(write, deadline=soon())


@pytest.fixture
def connection(served: RecallSettings) -> Iterator[ChromaConnection]:
    connection = ChromaConnection(served)
    yield connection
    connection.close()


@pytest.fixture
def search(served: RecallSettings, connection: ChromaConnection) -> Iterator[ChromaSearch]:
    fill(connection)
    search = ChromaSearch(served, FakeLengthEmbedder())
    yield search
    search.close()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were asked of the server, by httpx's own event hook on every client made from now on."""
    paths: list[str] = []
    original = httpx.Client.__init__

    def hooked(self: httpx.Client, **options: object) -> None:
        original(self, event_hooks={"request": [lambda request: paths.append(request.url.path)]}, **options)

    monkeypatch.setattr(httpx.Client, "__init__", hooked)
    return paths


def queries_among(requests: list[str]) -> int:
    return sum(path.endswith("/query") for path in requests)


def test_queries_without_filter_share_one_call_and_each_filter_takes_one_more(
    requests: list[str], search: ChromaSearch
) -> None:
    search.search([query("xx"), query("xxx"), query("xxxx", top_k=2)])
    assert queries_among(requests) == 1
    requests.clear()
    even, odd, also_even, none = search.search(
        [
            query("xx", where={"even": True}),
            query("xx", where={"even": False}),
            query("xxxx", where={"even": True}),
            query("xx"),
        ]
    )
    assert queries_among(requests) == 3
    assert [found[0].document_id for found in (even, odd, also_even, none)] == ["xx", "x", "xxxx", "xx"]


def test_a_filter_the_server_rejects_is_poison_and_its_neighbours_are_answered(search: ChromaSearch) -> None:
    found, rejected = search.search([query("xx"), query("xx", where={"even": {"$in": [True, "x"]}})])
    assert found[0].document_id == "xx"
    assert isinstance(rejected, PoisonError)
    assert rejected.reason == "invalid_filter"


def test_an_unknown_collection_is_poison_whatever_its_name_does_to_a_url(search: ChromaSearch) -> None:
    names = ["nowhere", "../../..", "documents/count", "no name", "d" * 600]
    found = search.search([query("xx", collection=name) for name in names])
    assert [error.reason for error in found if isinstance(error, PoisonError)] == ["unknown_collection"] * len(names)


def test_a_server_that_hangs_is_transient_within_the_timeout_and_well_again_after(
    chroma: Any, search: ChromaSearch, served: RecallSettings
) -> None:
    search.search([query("xx")])
    chroma.send(signal.SIGSTOP)
    try:
        [failed] = search.search([query("xx")])
        assert isinstance(failed, TransientError)
        assert f"localhost:{served.port}" in str(failed)
    finally:
        chroma.send(signal.SIGCONT)
    [found] = search.search([query("xx")])
    assert found[0].document_id == "xx"


def test_a_server_that_hangs_before_the_first_connection_is_transient(chroma: Any, served: RecallSettings) -> None:
    chroma.send(signal.SIGSTOP)
    try:
        with pytest.raises(TransientError, match="RERANK_WORKER_RECALL__HOST"):
            ChromaSearch(served, FakeLengthEmbedder()).check()
    finally:
        chroma.send(signal.SIGCONT)


def test_a_server_that_dies_is_transient_and_its_successor_is_searched_by_the_same_object(
    chroma: Any, search: ChromaSearch
) -> None:
    search.search([query("xx")])
    chroma.kill()
    [failed] = search.search([query("xx")])
    assert isinstance(failed, TransientError)
    chroma.start()
    [found] = search.search([query("xx")])
    assert found[0].document_id == "xx"


def test_a_query_that_kills_the_server_twice_is_told_from_one_that_meets_an_absent_server(
    chroma: Any, search: ChromaSearch
) -> None:
    # What the contract refuses; Chroma 1.5.9 overflows its stack.
    killer = query("xx", where={"$or": [{"even": number} for number in range(20_000)]})
    [lost] = search.search([killer])
    assert isinstance(lost, StoreLostError)
    [absent] = search.search([killer])
    assert isinstance(absent, TransientError)
    assert not isinstance(absent, StoreLostError)
    chroma.kill()
    chroma.start()
    plain, again = search.search([query("xx"), killer])
    assert plain[0].document_id == "xx"
    assert isinstance(again, StoreLostError)
