"""What recall does when the Chroma server is there, hangs, dies and comes back. Real server, fake vectors."""

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from chromadb.api import ClientAPI

from tests.patience import HANG_S
from tests.searching import Searching
from worker.batching.batcher import BatchReport
from worker.domain import Query
from worker.errors import PoisonError, TransientError
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection, StoreLostError
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import Vectors
from worker.recall.lexical.index import LexicalIndex
from worker.recall.lexical.search import new_search
from worker.recall.stage import BatchedRecall
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
    return time.monotonic() + HANG_S


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
def search(served: RecallSettings, connection: ChromaConnection) -> Iterator[Searching]:
    fill(connection)
    search = Searching(served, FakeLengthEmbedder())
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
    requests: list[str], search: Searching
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


def test_a_filter_the_server_rejects_is_poison_and_its_neighbours_are_answered(search: Searching) -> None:
    found, rejected = search.search([query("xx"), query("xx", where={"even": {"$in": [True, "x"]}})])
    assert found[0].document_id == "xx"
    assert isinstance(rejected, PoisonError)
    assert rejected.reason == "invalid_filter"


def test_an_unknown_collection_is_poison_whatever_its_name_does_to_a_url(search: Searching) -> None:
    names = ["nowhere", "../../..", "documents/count", "no name", "d" * 600]
    found = search.search([query("xx", collection=name) for name in names])
    assert [error.reason for error in found if isinstance(error, PoisonError)] == ["unknown_collection"] * len(names)


def test_a_server_that_hangs_is_transient_within_the_timeout_and_well_again_after(
    chroma: Any, search: Searching, served: RecallSettings
) -> None:
    search.search([query("xx")])
    chroma.send(signal.SIGSTOP)
    try:
        [failed] = search.search([query("xx")], within_s=1.0)
        assert isinstance(failed, TransientError)
        assert f"localhost:{served.port}" in str(failed)
    finally:
        chroma.send(signal.SIGCONT)
    [found] = search.search([query("xx")])
    assert found[0].document_id == "xx"


def test_a_server_that_hangs_before_the_first_connection_is_transient(chroma: Any, served: RecallSettings) -> None:
    chroma.send(signal.SIGSTOP)
    try:
        [failed] = Searching(served, FakeLengthEmbedder()).search([query("xx")], within_s=1.0)
        assert isinstance(failed, TransientError)
        assert "RERANK_WORKER_RECALL__HOST" in str(failed)
    finally:
        chroma.send(signal.SIGCONT)


def test_a_server_that_dies_is_transient_and_its_successor_is_searched_by_the_same_object(
    chroma: Any, search: Searching
) -> None:
    search.search([query("xx")])
    chroma.kill()
    [failed] = search.search([query("xx")])
    assert isinstance(failed, TransientError)
    chroma.start()
    [found] = search.search([query("xx")])
    assert found[0].document_id == "xx"


def test_a_query_that_kills_the_server_twice_is_told_from_one_that_meets_an_absent_server(
    chroma: Any, search: Searching
) -> None:
    # What the contract refuses; Chroma 1.5.9 overflows its stack.
    killer = query("xx", where={"$or": [{"even": number} for number in range(20_000)]})
    [lost] = search.search([killer])
    assert isinstance(lost, StoreLostError)
    [absent] = search.search([killer], after_loss=True)
    assert isinstance(absent, TransientError)
    assert not isinstance(absent, StoreLostError)
    chroma.kill()
    chroma.start()
    plain, again = search.search([query("xx"), killer], after_loss=True)
    assert plain[0].document_id == "xx"
    assert isinstance(again, StoreLostError)


async def test_calls_side_by_side_find_what_each_query_asked_for(served: RecallSettings, search: Searching) -> None:
    queries = [query("x" * (1 + number % 8), id=str(number), top_k=1) for number in range(40)]
    expected = [found[0].document_id for found in search.search(queries)]
    embedder = FakeLengthEmbedder()
    settings = served.model_copy(update={"max_batch": 4})
    sizes: list[BatchReport] = []
    recall = BatchedRecall(embedder, partial(ChromaSearch, settings, embedder), settings, on_batch=sizes.append)
    await recall.start()
    found = await asyncio.gather(*map(recall.recall, queries))
    assert [candidates[0].document_id for candidates in found] == expected
    assert max(report.items for report in sizes) <= 4
    await recall.close()


async def test_a_store_that_dies_of_a_query_answers_all_others_when_it_is_back(
    chroma: Any, served: RecallSettings, search: Searching
) -> None:
    """Real deaths, with searches of other queries under way."""
    embedder = FakeLengthEmbedder()
    settings = served.model_copy(update={"patience_s": HANG_S})
    recall = BatchedRecall(embedder, partial(ChromaSearch, settings, embedder), settings)
    await recall.start()
    killer = query("killer", where={"$or": [{"even": number} for number in range(20_000)]})
    asked = [asyncio.create_task(recall.recall(one)) for one in (killer, *(query("x" * n) for n in range(1, 9)))]
    async with asyncio.timeout(HANG_S):
        while not asked[0].done():
            await asyncio.sleep(0.05)
            if chroma.process.poll() is not None:
                await asyncio.to_thread(chroma.kill)
                await asyncio.to_thread(chroma.start)
    error = asked[0].exception()
    assert isinstance(error, PoisonError)
    assert error.reason == "store_crashed"
    await asyncio.to_thread(chroma.kill)
    await asyncio.to_thread(chroma.start)
    found = await asyncio.gather(*asked[1:])
    assert [candidates[0].document_id for candidates in found] == ["x" * n for n in range(1, 9)]
    await recall.close()


def test_what_words_find_comes_from_the_server_with_the_distance_it_tells(
    served: RecallSettings, connection: ChromaConnection, search: Searching, tmp_path: Path
) -> None:
    lexical, asked = LexicalIndex(tmp_path), query("xxxxxxxx and x", top_k=3, where={"even": {"$ne": "neither"}})
    collection = connection.run(
        lambda client: client.get_collection("documents", embedding_function=None), deadline=soon()
    )
    lexical.fill(collection, lambda operation: operation(collection))
    lexical.close()
    embedder = FakeLengthEmbedder()
    hybrid = new_search(served.model_copy(update={"lexical_path": tmp_path}), embedder)()
    [found] = hybrid.find([asked], embedder.embed_queries([asked.text]), within_s=HANG_S)
    hybrid.close()
    [by_words] = [each for each in found if each.legs == ("lexical",)]
    [every] = search.search([query(asked.text, top_k=8)])
    [told] = [each for each in every if each.document_id == "x"]
    assert (by_words.document_id, by_words.text, by_words.metadata) == ("x", "x", told.metadata)
    assert by_words.distance == pytest.approx(told.distance, abs=1e-6)
    assert by_words.similarity == pytest.approx(told.similarity, abs=1e-6)
