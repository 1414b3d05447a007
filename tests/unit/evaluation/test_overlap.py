"""What two collections find for the same questions."""

from collections.abc import Iterator, Sequence

import pytest
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from tests.unit.conftest import FakeHashEmbedder
from worker.errors import FatalError
from worker.evaluation.overlap import overlap, sampled_texts
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection
from worker.settings import RecallSettings


@pytest.fixture
def connection(recall_settings: RecallSettings) -> Iterator[ChromaConnection]:
    connection = ChromaConnection(recall_settings)
    yield connection
    connection.close()


def filled(
    client: ClientAPI, name: str, embedder: FakeHashEmbedder, chunks: Sequence[tuple[str, str, dict[str, str | int]]]
) -> Collection:
    """A collection of (id, text, metadata)."""
    collection = make_collection(client, name, embedder, top_k=5)
    collection.upsert(
        ids=[identifier for identifier, _, _ in chunks],
        embeddings=embedder.embed_documents([text for _, text, _ in chunks]),
        documents=[text for _, text, _ in chunks],
        metadatas=[{"_hash": "x", **metadata} for _, _, metadata in chunks],
    )
    return collection


def test_documents_are_compared_however_they_are_cut(
    chroma_client: ClientAPI, connection: ChromaConnection, embedder: FakeHashEmbedder
) -> None:
    whole = filled(chroma_client, "whole", embedder, [("a", "text a", {}), ("b", "text b", {})])
    chunks: list[tuple[str, str, dict[str, str | int]]] = [
        ("a", "text a", {"chunk": 1, "_document": "a"}),
        ("a#2", "more of a", {"chunk": 2, "_document": "a"}),
        ("b", "text b", {"chunk": 1}),
        ("b#2", "more of b", {"chunk": 2}),
    ]
    cut = filled(chroma_client, "cut", embedder, chunks)
    found = overlap(
        connection, [(whole, embedder), (cut, embedder)], ["text a", "text b"], top_k=4, watch=lambda *_: None
    )
    assert (found.mean, found.questions, found.top_k) == (1.0, 2, 4)


def test_the_mean_and_the_worst_questions_say_where_they_differ(
    chroma_client: ClientAPI, connection: ChromaConnection, embedder: FakeHashEmbedder
) -> None:
    texts = [f"text {number}" for number in range(12)]
    one = filled(chroma_client, "one", embedder, [(text, text, {}) for text in texts])
    other = filled(chroma_client, "other", embedder, [(text, text, {}) for text in texts[:9]])
    done: list[int] = []
    found = overlap(
        connection, [(one, embedder), (other, embedder)], texts, top_k=1, watch=lambda _, now, __: done.append(now)
    )
    # What is in both finds itself in both.
    assert found.mean == pytest.approx(9 / 12)
    assert {each.text for each in found.worst if each.share == 0} == set(texts[9:])
    assert done == [0, 10]


def test_each_collection_is_asked_with_vectors_of_its_own_model(
    chroma_client: ClientAPI, connection: ChromaConnection, embedder: FakeHashEmbedder
) -> None:
    another = FakeHashEmbedder("another-model", dimension=8)
    texts = [f"text {number}" for number in range(5)]
    one = filled(chroma_client, "one", embedder, [(text, text, {}) for text in texts])
    other = filled(chroma_client, "other", another, [(text, text, {}) for text in texts])
    found = overlap(connection, [(one, embedder), (other, another)], texts, top_k=1, watch=lambda *_: None)
    assert found.mean == 1.0


def test_texts_are_sampled_from_the_whole_collection_and_the_same_each_time(
    chroma_client: ClientAPI, connection: ChromaConnection, embedder: FakeHashEmbedder
) -> None:
    texts = [f"text {number:03} {'long ' * 60}" for number in range(100)]
    collection = filled(chroma_client, "one", embedder, [(text, text, {}) for text in texts])
    sampled = sampled_texts(connection, collection, 10)
    assert sampled == sampled_texts(connection, collection, 10)
    assert [text[:8] for text in sampled] == [f"text {number:03}" for number in range(0, 100, 10)]
    assert max(map(len, sampled)) <= 200
    assert len(sampled_texts(connection, collection, 500)) == 100


def test_a_collection_without_texts_can_not_be_sampled(
    chroma_client: ClientAPI, connection: ChromaConnection, embedder: FakeHashEmbedder
) -> None:
    empty = make_collection(chroma_client, "empty", embedder, top_k=5)
    with pytest.raises(FatalError, match="'empty' holds no text"):
        sampled_texts(connection, empty, 10)
