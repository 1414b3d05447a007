import chromadb
import numpy as np
import pytest
from chromadb.api import ClientAPI
from structlog.testing import capture_logs

from worker.recall.chroma_collections import (
    IncompatibleCollectionError,
    make_collection,
    open_collection,
)
from worker.recall.chroma_search import cosine_similarities
from worker.recall.embedder import Embedder


def foreign(chroma_client: ClientAPI, vectors: np.ndarray, space: str | None = None) -> chromadb.Collection:
    configuration = {"hnsw": {"space": space}} if space else None
    collection = chroma_client.create_collection("elsewhere", embedding_function=None, configuration=configuration)
    if len(vectors):
        collection.upsert(
            ids=[str(row) for row in range(len(vectors))], embeddings=vectors, documents=["text"] * len(vectors)
        )
    return collection


def test_a_new_collection_records_its_model_and_measures_cosine(chroma_client: ClientAPI, embedder: Embedder) -> None:
    make_collection(chroma_client, "documents", embedder, top_k=300)
    collection = chroma_client.get_collection("documents", embedding_function=None)
    assert collection.metadata == {"embedding_model": "fake-hash", "embedding_dimension": 16}
    assert collection.configuration_json["hnsw"]["space"] == "cosine"
    assert collection.configuration_json["hnsw"]["ef_search"] == 600


def test_making_a_collection_that_is_there_keeps_it(chroma_client: ClientAPI, embedder: Embedder) -> None:
    made = make_collection(chroma_client, "documents", embedder, top_k=5)
    made.upsert(ids=["a"], embeddings=embedder.embed_documents(["a"]), documents=["a"])
    assert make_collection(chroma_client, "documents", embedder, top_k=5).count() == 1


def test_making_a_collection_of_another_model_is_refused_and_changes_nothing(
    chroma_client: ClientAPI, embedder: Embedder
) -> None:
    chroma_client.create_collection("documents", embedding_function=None, metadata={"embedding_model": "another"})
    with pytest.raises(IncompatibleCollectionError, match="'another'"):
        make_collection(chroma_client, "documents", embedder, top_k=5)
    assert chroma_client.get_collection("documents", embedding_function=None).metadata == {"embedding_model": "another"}


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_similarity_is_the_cosine_in_every_space_of_unit_vectors(
    chroma_client: ClientAPI, embedder: Embedder, space: str
) -> None:
    vectors = embedder.embed_documents(["one", "two", "three"])
    foreign(chroma_client, vectors, space)
    opened = open_collection(chroma_client, "elsewhere", embedder, top_k=5)
    result = opened.handle.query(query_embeddings=vectors[:1], n_results=3, include=["distances"])
    similarities = cosine_similarities(opened.space, result["distances"][0])
    expected = [float(vectors[0] @ vectors[int(row)]) for row in result["ids"][0]]
    assert similarities == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("space", "known"), [("cosine", True), ("l2", False), ("ip", False)])
def test_similarity_is_not_guessed_from_vectors_of_other_lengths(
    chroma_client: ClientAPI, embedder: Embedder, space: str, *, known: bool
) -> None:
    foreign(chroma_client, 3 * embedder.embed_documents(["one"]), space)
    opened = open_collection(chroma_client, "elsewhere", embedder, top_k=5)
    assert (cosine_similarities(opened.space, [0.5]) != [None]) is known


def test_a_collection_that_names_no_model_is_taken_with_a_warning(chroma_client: ClientAPI, embedder: Embedder) -> None:
    foreign(chroma_client, embedder.embed_documents(["one"]))
    with capture_logs() as logs:
        open_collection(chroma_client, "elsewhere", embedder, top_k=5)
    assert [log["log_level"] for log in logs] == ["warning"]
    assert logs[0]["collection"] == "elsewhere"


def test_a_collection_of_another_dimension_is_refused(chroma_client: ClientAPI, embedder: Embedder) -> None:
    foreign(chroma_client, np.ones((1, 8), dtype=np.float32))
    with pytest.raises(IncompatibleCollectionError, match="8 dimensions"):
        open_collection(chroma_client, "elsewhere", embedder, top_k=5)


def test_a_collection_too_narrow_for_top_k_is_warned_about(chroma_client: ClientAPI, embedder: Embedder) -> None:
    make_collection(chroma_client, "documents", embedder, top_k=5)
    with capture_logs() as logs:
        open_collection(chroma_client, "documents", embedder, top_k=500)
    assert [log["wanted"] for log in logs] == [1000]
