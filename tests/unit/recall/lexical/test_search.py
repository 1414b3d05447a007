"""Both legs over a real Chroma: what words find beside vectors, and what neither may find."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from structlog.testing import capture_logs

from tests.patience import HANG_S
from worker.domain import Query
from worker.recall.chroma_collections import make_collection
from worker.recall.embedder import Embedder
from worker.recall.lexical import search as search_module
from worker.recall.lexical.index import LexicalIndex, path_of
from worker.recall.lexical.search import HybridSearch, new_search
from worker.settings import RecallSettings

MakeQuery = Callable[..., Query]
RARE = "ERR-4711-X"
TEXTS = {f"d{number}": f"passage number {number}" for number in range(30)}


@pytest.fixture
def hybrid_settings(recall_settings: RecallSettings, tmp_path: Path) -> RecallSettings:
    return recall_settings.model_copy(update={"lexical_path": tmp_path / "lexical"})


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def hybrid(hybrid_settings: RecallSettings, embedder: Embedder, failures: list[str]) -> Iterator[HybridSearch]:
    search = new_search(hybrid_settings, embedder, on_failure=failures.append)()
    assert isinstance(search, HybridSearch)
    yield search
    search.close()


@pytest.fixture
def collection(chroma_client: ClientAPI, embedder: Embedder) -> Collection:
    return make_collection(chroma_client, "documents", embedder, top_k=5)


@pytest.fixture
def add(collection: Collection, embedder: Embedder, hybrid_settings: RecallSettings) -> Iterator[Callable[..., None]]:
    """Put chunks where `ingest` does: into Chroma and beside it."""
    lexical = LexicalIndex(hybrid_settings.lexical_path)
    lexical.fill(collection, lambda operation: operation(collection))

    def put(texts: dict[str, str], **metadata: Any) -> None:
        collection.upsert(
            ids=list(texts),
            embeddings=embedder.embed_documents(list(texts.values())),
            documents=list(texts.values()),
            metadatas=[{"tenant": "ours", **metadata} for _ in texts],
        )
        lexical.put(collection, texts)

    yield put
    lexical.close()


@pytest.fixture
def find(hybrid: HybridSearch, embedder: Embedder) -> Callable[..., list[Any]]:
    def run(*queries: Query) -> list[Any]:
        return list(hybrid.find(queries, embedder.embed_queries([query.text for query in queries]), within_s=HANG_S))

    return run


def test_a_rare_name_is_found_that_vectors_alone_miss(
    add: Callable[..., None],
    find: Callable[..., list[Any]],
    make_query: MakeQuery,
    recall_settings: RecallSettings,
    embedder: Embedder,
) -> None:
    add({**TEXTS, "the one": f"What {RARE} means is told here."})
    query = make_query(f"how do I get rid of {RARE}", top_k=5)
    dense = new_search(recall_settings, embedder)()
    [alone] = dense.find([query], embedder.embed_queries([query.text]), within_s=HANG_S)
    dense.close()
    assert "the one" not in {each.document_id for each in alone}
    assert {each.legs for each in alone} == {None}

    [found] = find(query)
    assert len(found) == 5
    assert [each.recall_rank for each in found] == [1, 2, 3, 4, 5]
    assert found.lacks is None
    [the_one] = [each for each in found if each.document_id == "the one"]
    assert the_one.legs == ("lexical",)
    assert the_one.text == f"What {RARE} means is told here."
    assert the_one.metadata == {"tenant": "ours"}
    assert {each.legs for each in found if each is not the_one} == {("dense",)}


def test_what_both_legs_find_comes_first_and_says_so(
    add: Callable[..., None], find: Callable[..., list[Any]], make_query: MakeQuery
) -> None:
    add(TEXTS)
    [found] = find(make_query("passage number 7", top_k=5))
    assert found[0].document_id == "d7"
    assert found[0].legs == ("dense", "lexical")
    assert found[0].distance == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_a_distance_is_what_chroma_says_it_is(
    chroma_client: ClientAPI,
    hybrid_settings: RecallSettings,
    embedder: Embedder,
    find: Callable[..., list[Any]],
    make_query: MakeQuery,
    space: str,
) -> None:
    collection = chroma_client.create_collection(
        "documents", embedding_function=None, configuration={"hnsw": {"space": space}}
    )
    # Not of unit length, so that the measures differ.
    vectors = embedder.embed_documents(list(TEXTS.values())) * np.linspace(0.5, 2, len(TEXTS))[:, None]
    collection.upsert(ids=list(TEXTS), embeddings=vectors.astype(np.float32), documents=list(TEXTS.values()))
    lexical = LexicalIndex(hybrid_settings.lexical_path)
    lexical.fill(collection, lambda operation: operation(collection))
    lexical.close()
    question = make_query("number 23 and 24 of them", top_k=2)
    told = collection.query(
        query_embeddings=embedder.embed_queries([question.text]), n_results=30, include=["distances"]
    )
    distances = dict(zip(told["ids"][0], told["distances"][0], strict=True))
    [found] = find(question)
    assert "lexical" in {leg for each in found for leg in each.legs}
    by_words = [each for each in found if each.legs == ("lexical",)]
    assert by_words
    for each in by_words:
        assert each.distance == pytest.approx(distances[each.document_id], abs=1e-5)


def test_a_filter_holds_for_what_words_find(
    add: Callable[..., None], find: Callable[..., list[Any]], make_query: MakeQuery
) -> None:
    add({f"secret {number}": f"{RARE} of theirs, {number}" for number in range(20)}, tenant="theirs")
    add({"plain": f"a word on {RARE} at the end of a long text, which ranks it low: {'and so on ' * 30}"})
    add(TEXTS)
    [found] = find(make_query(RARE, where={"tenant": "ours"}, top_k=3))
    assert {each.metadata["tenant"] for each in found} == {"ours"}
    # Though all of theirs rank above it.
    assert [each.legs for each in found if each.document_id == "plain"] == [("lexical",)]
    [theirs, none] = find(*(make_query(RARE, where={"tenant": "theirs"}, top_k=k) for k in (2, 3)))
    assert {each.metadata["tenant"] for each in (*theirs, *none)} == {"theirs"}
    assert (len(theirs), len(none)) == (2, 3)


def test_what_chroma_no_longer_has_is_not_found_and_leaves_its_place_to_others(
    add: Callable[..., None], collection: Collection, find: Callable[..., list[Any]], make_query: MakeQuery
) -> None:
    add({**TEXTS, "gone": f"{RARE} {RARE}"})
    collection.delete(ids=["gone"])
    [found] = find(make_query(RARE, top_k=4))
    assert len(found) == 4
    assert "gone" not in {each.document_id for each in found}
    assert [each.recall_rank for each in found] == [1, 2, 3, 4]


def test_queries_of_one_call_get_what_is_theirs(
    add: Callable[..., None], find: Callable[..., list[Any]], make_query: MakeQuery
) -> None:
    add({**TEXTS, "one": "zebras sleep", "two": "tigers hunt"})
    found = find(make_query("where are zebras", top_k=2), make_query("where are tigers", top_k=3))
    assert [len(each) for each in found] == [2, 3]
    assert [[each.document_id for each in one if "lexical" in each.legs] for one in found] == [["one"], ["two"]]


def test_without_its_file_it_answers_from_vectors_and_says_so_once(
    add: Callable[..., None],
    find: Callable[..., list[Any]],
    make_query: MakeQuery,
    hybrid_settings: RecallSettings,
    collection: Collection,
    failures: list[str],
) -> None:
    add({**TEXTS, "the one": RARE})
    path = path_of(hybrid_settings.lexical_path, collection)
    path.rename(path.with_suffix(".away"))
    with capture_logs() as logs:
        answers = [find(make_query(RARE, top_k=4))[0] for _ in range(3)]
    assert [each.lacks for each in answers] == ["lexical_missing"] * 3
    assert {each.legs for found in answers for each in found} == {("dense",)}
    assert failures == ["lexical_missing"] * 3
    [line] = [each for each in logs if each["log_level"] == "warning"]
    assert "lexical rebuild" in line["reason"]
    path.with_suffix(".away").rename(path)
    [found] = find(make_query(RARE, top_k=4))
    assert found.lacks is None
    assert "the one" in {each.document_id for each in found}


def test_a_damaged_file_is_done_without(
    add: Callable[..., None],
    find: Callable[..., list[Any]],
    make_query: MakeQuery,
    hybrid_settings: RecallSettings,
    collection: Collection,
) -> None:
    add(TEXTS)
    path = path_of(hybrid_settings.lexical_path, collection)
    for each in path.parent.iterdir():
        each.unlink()
    path.write_bytes(b"no database " * 1_000)
    [found] = find(make_query("passage number 3", top_k=2))
    assert found.lacks == "lexical_damaged"
    assert found[0].document_id == "d3"


def test_more_ids_than_one_call_takes_are_asked_for_in_several(
    add: Callable[..., None],
    find: Callable[..., list[Any]],
    make_query: MakeQuery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "MOST_ASKED", 2)
    add({f"z{number}": f"zebra {number}" for number in range(9)} | TEXTS)
    [found] = find(make_query("zebra", top_k=9, where={"tenant": "ours"}))
    assert sum("lexical" in each.legs for each in found) >= 4


def test_vectors_alone_are_asked_where_no_folder_is_set(recall_settings: RecallSettings, embedder: Embedder) -> None:
    search = new_search(recall_settings, embedder)()
    assert not isinstance(search, HybridSearch)
    search.close()
