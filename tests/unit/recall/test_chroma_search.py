import json
from collections.abc import Callable
from typing import Any

import pytest
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.errors import InternalError

from tests.searching import Searching
from worker.domain import Query
from worker.errors import FatalError, PoisonError, TransientError
from worker.recall.chroma_collections import DefaultCollectionMissingError, make_collection
from worker.recall.chroma_search import search_key
from worker.recall.embedder import Embedder

MakeQuery = Callable[..., Query]
TEXTS = [f"passage {number}" for number in range(12)]


@pytest.fixture
def documents(chroma_client: ClientAPI, embedder: Embedder) -> Collection:
    collection = make_collection(chroma_client, "documents", embedder, top_k=5)
    collection.upsert(
        ids=[f"d{number}" for number in range(len(TEXTS))],
        embeddings=embedder.embed_documents(TEXTS),
        documents=TEXTS,
        metadatas=[{"half": number % 2, "_hash": "x"} for number in range(len(TEXTS))],
    )
    return collection


@pytest.mark.usefixtures("documents")
def test_every_query_gets_its_own_top_k_nearest_first(search: Searching, make_query: MakeQuery) -> None:
    one, many = search.search([make_query("passage 3", top_k=1), make_query("passage 7", top_k=7)])
    assert [candidate.document_id for candidate in one] == ["d3"]
    assert len(many) == 7
    assert many[0].document_id == "d7"
    assert [candidate.recall_rank for candidate in many] == list(range(1, 8))
    assert [c.distance for c in many] == sorted(c.distance for c in many)


@pytest.mark.usefixtures("documents")
def test_a_candidate_carries_text_similarity_and_public_metadata(search: Searching, make_query: MakeQuery) -> None:
    [[candidate]] = search.search([make_query("passage 3", top_k=1)])
    assert candidate.text == "passage 3"
    assert candidate.similarity == pytest.approx(1.0, abs=1e-5)
    assert candidate.metadata == {"half": 1}


@pytest.mark.usefixtures("documents")
def test_a_filter_holds_for_its_query_alone(search: Searching, make_query: MakeQuery) -> None:
    odd, every = search.search([make_query("x", where={"half": 1}, top_k=12), make_query("x", top_k=12)])
    assert {candidate.metadata["half"] for candidate in odd} == {1}
    assert len(every) == len(TEXTS)


@pytest.mark.usefixtures("documents")
def test_an_empty_filter_is_no_filter(search: Searching, make_query: MakeQuery) -> None:
    [found] = search.search([make_query("x", where={})])
    assert len(found) == 3


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(
    "where",
    [
        {"half": {"$foo": 1}},
        {"half": 1, "other": 2},
        {"half": {"$in": []}},
        {"half": {"$gt": float("nan")}},
        {"half": None},
    ],
)
def test_a_rejected_filter_is_poison_and_leaves_its_neighbours_alone(
    search: Searching, make_query: MakeQuery, where: dict[str, object]
) -> None:
    before, rejected, after = search.search(
        [make_query("passage 1"), make_query("passage 2", where=where), make_query("passage 3")]
    )
    assert before[0].document_id == "d1"
    assert after[0].document_id == "d3"
    assert isinstance(rejected, PoisonError)
    assert rejected.reason == "invalid_filter"
    # None of Chroma's own words, which are in the log.
    assert str(rejected) == f"Chroma rejects the filter: {json.dumps(where)}"


def test_queries_share_a_call_if_neither_pays_for_the_others_filter_or_size(make_query: MakeQuery) -> None:
    plain = search_key(make_query("a", top_k=20))
    assert search_key(make_query("b", top_k=16)) == plain
    others = [{"top_k": 40}, {"collection": "other"}, {"where": {"half": 1}}, {"where": {"half": 0}}]
    assert len({plain, *(search_key(make_query("a", **({"top_k": 20} | other))) for other in others)}) == 5
    assert search_key(make_query("a", where={"x": 1, "y": 2})) == search_key(make_query("b", where={"y": 2, "x": 1}))


@pytest.mark.usefixtures("documents")
def test_an_unknown_collection_is_poison_that_names_it(search: Searching, make_query: MakeQuery) -> None:
    missing, present = search.search([make_query("x", collection="nowhere"), make_query("x")])
    assert isinstance(missing, PoisonError)
    assert missing.reason == "unknown_collection"
    assert "'nowhere'" in str(missing)
    assert len(present) == 3


def test_an_empty_collection_has_no_candidates(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    make_collection(chroma_client, "documents", embedder, top_k=5)
    assert search.search([make_query("x")]) == [[]]


def test_a_collection_made_anew_is_found_again(
    chroma_client: ClientAPI, documents: Collection, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    search.search([make_query("x")])
    chroma_client.delete_collection(documents.name)
    anew = make_collection(chroma_client, "documents", embedder, top_k=5)
    anew.upsert(ids=["new"], embeddings=embedder.embed_documents(["new"]), documents=["new"])
    [[candidate]] = search.search([make_query("x")])
    assert candidate.document_id == "new"
    assert candidate.metadata == {}


def test_a_collection_made_anew_with_another_model_is_refused(
    chroma_client: ClientAPI, documents: Collection, search: Searching, make_query: MakeQuery, embedder: Embedder
) -> None:
    search.search([make_query("x")])
    chroma_client.delete_collection(documents.name)
    chroma_client.create_collection("documents", embedding_function=None, metadata={"embedding_model": "another"})
    [refused] = search.search([make_query("x")])
    assert isinstance(refused, FatalError)


def test_documents_without_text_are_left_out(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    collection = make_collection(chroma_client, "documents", embedder, top_k=5)
    collection.upsert(
        ids=["none", "blank", "text"],
        embeddings=embedder.embed_documents(["a", "b", "c"]),
        documents=[None, " \n", "text"],
    )
    [[candidate]] = search.search([make_query("a")])
    assert (candidate.document_id, candidate.recall_rank) == ("text", 1)


def test_another_models_collection_ends_the_worker_only_if_it_is_the_default_one(
    chroma_client: ClientAPI, search: Searching, make_query: MakeQuery
) -> None:
    for name in ("documents", "foreign"):
        chroma_client.create_collection(
            name, embedding_function=None, metadata={"embedding_model": "another", "embedding_dimension": 16}
        )
    own, named = search.search([make_query("x"), make_query("x", collection="foreign")])
    assert isinstance(own, FatalError)
    assert "'another'" in str(own)
    assert "RERANK_WORKER_RECALL__EMBEDDING_MODEL" in str(own)
    assert isinstance(named, PoisonError)
    assert named.reason == "incompatible_collection"


def test_a_default_collection_that_is_missing_is_waited_for_and_any_other_is_poison(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    default, named = search.search([make_query("x"), make_query("x", collection="another")])
    assert isinstance(default, DefaultCollectionMissingError)
    assert isinstance(named, PoisonError)
    assert named.reason == "unknown_collection"
    make_collection(chroma_client, "documents", embedder, top_k=5)
    assert search.search([make_query("x")]) == [[]]


BEYOND_CHROMA = [
    pytest.param({"$or": [{"half": number} for number in range(1_000)]}, id="comparisons"),
    pytest.param({"half": {"$in": list(range(50_000))}}, id="values"),
    pytest.param({"half": 2**64}, id="integer"),
    pytest.param({"half": {"$gt": "x"}}, id="types"),
    pytest.param({"$half": 1}, id="operator"),
]


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("where", BEYOND_CHROMA)
def test_a_filter_chroma_can_not_take_is_poison_at_once_and_its_neighbours_are_answered(
    search: Searching, make_query: MakeQuery, where: dict[str, Any]
) -> None:
    refused, plain, filtered = search.search(
        [make_query("x", where=where), make_query("passage 1"), make_query("x", where={"half": 1})]
    )
    assert plain[0].document_id == "d1"
    assert len(filtered) == 3
    if where != {"half": 2**64}:  # An embedded store takes it; a server refuses it.
        assert isinstance(refused, PoisonError)
        assert refused.reason == "invalid_filter"


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(("without_filter", "kind"), [("answers", PoisonError), ("fails", TransientError)])
def test_a_filter_is_to_blame_for_a_failure_if_the_store_answers_without_it(
    search: Searching,
    make_query: MakeQuery,
    monkeypatch: pytest.MonkeyPatch,
    without_filter: str,
    kind: type[Exception],
) -> None:
    original = Collection.query

    def failing(self: Collection, **arguments: Any) -> Any:
        if arguments["where"] or without_filter == "fails":
            raise InternalError("something nobody has seen before")
        return original(self, **arguments)

    monkeypatch.setattr(Collection, "query", failing)
    [found] = search.search([make_query("x", where={"half": 1})])
    assert isinstance(found, kind)


@pytest.mark.usefixtures("documents")
def test_a_failure_at_a_filter_that_passes_by_itself_is_transient(
    search: Searching, make_query: MakeQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, failures = Collection.query, [InternalError("once")]

    def failing(self: Collection, **arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(self, **arguments)

    monkeypatch.setattr(Collection, "query", failing)
    [found] = search.search([make_query("x", where={"half": 1})])
    assert isinstance(found, TransientError)


@pytest.mark.filterwarnings("ignore:overflow encountered in dot")  # chromadb's own look at the vector
def test_a_document_that_can_not_be_compared_is_left_out_and_the_others_are_answered(
    chroma_client: ClientAPI, search: Searching, make_query: MakeQuery
) -> None:
    collection = chroma_client.create_collection("documents", embedding_function=None)
    collection.upsert(
        ids=["far", "near"],
        embeddings=[[2e19, *[0.0] * 15], [1.0, *[0.0] * 15]],
        documents=["far", "near"],
        metadatas=[{"a": 1}, {"a": 1, "tags": ["x", "y"]}],
    )
    for where in (None, {"a": {"$ne": 5}}):
        [found] = search.search([make_query("x", where=where)])
        assert [(one.document_id, one.recall_rank) for one in found] == [("near", 1)]
        assert found[0].metadata == {"a": 1}


def test_a_collection_that_was_empty_when_opened_is_checked_again_once_filled_by_another_model(
    chroma_client: ClientAPI, search: Searching, make_query: MakeQuery
) -> None:
    collection = chroma_client.create_collection("documents", embedding_function=None)
    assert search.search([make_query("x")]) == [[]]
    collection.upsert(ids=["a"], embeddings=[[1.0, 2.0]], documents=["a"])
    [refused] = search.search([make_query("x", where={"half": 1})])
    assert isinstance(refused, FatalError)
    assert "2 dimensions" in str(refused)
