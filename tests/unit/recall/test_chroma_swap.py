"""Names that point: what a swap writes, what it refuses, and what readers and writers make of it."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from chromadb.api import ClientAPI
from chromadb.api.client import Client
from chromadb.errors import NotFoundError
from structlog.testing import capture_logs

from tests.searching import Searching
from tests.unit.conftest import FakeHashEmbedder
from worker.domain import Query
from worker.errors import FatalError, PoisonError
from worker.recall.chroma_collections import (
    DefaultCollectionMissingError,
    IncompatibleCollectionError,
    follow,
    make_collection,
)
from worker.recall.chroma_swap import all_collections, model_of, plan_swap, swap
from worker.recall.embedder import Embedder
from worker.recall.pointer import Pointer
from worker.settings import RecallSettings

MakeQuery = Callable[..., Query]
OTHER = FakeHashEmbedder("another-model", dimension=8)
THIRD = FakeHashEmbedder("third-model", dimension=4)


@pytest.fixture
def searching_settings(recall_settings: RecallSettings) -> RecallSettings:
    """With which each call looks where its name leads."""
    return recall_settings.model_copy(update={"follow_s": 1e-9})


@pytest.fixture
def search(searching_settings: RecallSettings, embedder: Embedder) -> Iterator[Searching]:
    search = Searching(searching_settings, embedder)
    yield search
    search.close()


def fill(client: ClientAPI, name: str, embedder: Embedder) -> None:
    """One document, which says where it is."""
    make_collection(client, name, embedder, top_k=5).upsert(
        ids=[f"of-{name}"], embeddings=embedder.embed_documents(["text"]), documents=["text"]
    )


def point(client: ClientAPI, name: str, new: str) -> None:
    swap(client, plan_swap(client, name, new))


def read(search: Searching, make_query: MakeQuery, **changes: object) -> str:
    [found] = search.search([make_query("x", **changes)])
    if isinstance(found, Exception):
        raise found
    [candidate] = found
    return candidate.document_id


def test_a_name_reads_what_it_points_to_and_back_again(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    fill(chroma_client, "documents", embedder)
    fill(chroma_client, "documents-2", embedder)
    assert read(search, make_query) == "of-documents"
    point(chroma_client, "documents", "documents-2")
    assert read(search, make_query) == "of-documents-2"
    point(chroma_client, "documents", "documents")
    assert read(search, make_query) == "of-documents"


def test_a_swap_keeps_what_the_collection_says_of_its_own_contents(
    chroma_client: ClientAPI, embedder: Embedder
) -> None:
    fill(chroma_client, "documents", embedder)
    before = chroma_client.get_collection("documents", embedding_function=None)
    fill(chroma_client, "documents-2", embedder)
    point(chroma_client, "documents", "documents-2")
    after = chroma_client.get_collection("documents", embedding_function=None)
    assert after.metadata == {**(before.metadata or {}), "points_to": "documents-2"}
    assert after.configuration_json == before.configuration_json
    assert (after.id, after.count()) == (before.id, 1)
    point(chroma_client, "documents", "documents")
    assert chroma_client.get_collection("documents", embedding_function=None).metadata == before.metadata


def test_a_collection_made_elsewhere_without_metadata_can_point_and_stop(
    chroma_client: ClientAPI,
) -> None:
    for name in ("documents", "documents-2"):
        chroma_client.create_collection(name, embedding_function=None)
    point(chroma_client, "documents", "documents-2")
    point(chroma_client, "documents", "documents")
    assert not chroma_client.get_collection("documents", embedding_function=None).metadata


def test_a_name_that_does_not_exist_is_made_to_point_alone(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    fill(chroma_client, "documents-2", embedder)
    point(chroma_client, "documents", "documents-2")
    assert read(search, make_query) == "of-documents-2"
    with pytest.raises(FatalError, match="only points, to 'documents-2', and takes no documents"):
        make_collection(chroma_client, "documents", embedder, top_k=5)
    with pytest.raises(FatalError, match="holds nothing that could be read instead"):
        plan_swap(chroma_client, "documents", "documents")
    fill(chroma_client, "documents-3", embedder)
    point(chroma_client, "documents", "documents-3")
    chroma_client.delete_collection("documents-2")
    assert read(search, make_query) == "of-documents-3"


def test_who_writes_writes_what_it_names_and_is_warned(chroma_client: ClientAPI, embedder: Embedder) -> None:
    fill(chroma_client, "documents", embedder)
    fill(chroma_client, "documents-2", embedder)
    point(chroma_client, "documents", "documents-2")
    with capture_logs() as logs:
        assert make_collection(chroma_client, "documents", embedder, top_k=5).name == "documents"
    assert [(each["log_level"], each["points_to"]) for each in logs] == [("warning", "documents-2")]


@pytest.mark.parametrize(
    ("name", "new", "why"),
    [
        ("documents", "nowhere", "there is no collection 'nowhere': fill it first"),
        ("documents-2", "documents", "'documents' points itself, to 'documents-2'"),
        (
            "documents-2",
            "documents-3",
            "'documents' points to 'documents-2', .* `collections swap documents documents-3`",
        ),
        ("no/name", "documents-3", "cannot be the name of a collection"),
    ],
)
def test_what_would_need_a_second_hop_or_leads_nowhere_is_refused(
    chroma_client: ClientAPI, embedder: Embedder, name: str, new: str, why: str
) -> None:
    for each in ("documents", "documents-2", "documents-3"):
        fill(chroma_client, each, embedder)
    point(chroma_client, "documents", "documents-2")
    with pytest.raises(FatalError, match=why):
        plan_swap(chroma_client, name, new)


def test_a_reader_takes_one_hop_alone(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    for each in ("documents", "documents-2", "documents-3"):
        fill(chroma_client, each, embedder)
    point(chroma_client, "documents-2", "documents-3")
    # Swap refuses it; somebody else's hand may not.
    chroma_client.get_collection("documents", embedding_function=None).modify(metadata={"points_to": "documents-2"})
    assert read(search, make_query) == "of-documents-2"


@pytest.mark.parametrize("queried_by_name", [False, True])
def test_a_pointer_into_nothing_says_so_and_is_mended_by_the_next_swap(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery, queried_by_name: bool
) -> None:
    name = "another" if queried_by_name else "documents"
    for each in (name, "documents-2", "documents-3"):
        fill(chroma_client, each, embedder)
    point(chroma_client, name, "documents-2")
    assert read(search, make_query, collection=name) == "of-documents-2"
    chroma_client.delete_collection("documents-2")
    expected = PoisonError if queried_by_name else DefaultCollectionMissingError
    # Never silently what is older.
    with pytest.raises(expected, match=f"'{name}' points to 'documents-2', which does not exist"):
        read(search, make_query, collection=name)
    point(chroma_client, name, "documents-3")
    assert read(search, make_query, collection=name) == "of-documents-3"


def test_a_worker_that_runs_keeps_what_works_when_its_name_is_gone(
    chroma_client: ClientAPI, search: Searching, embedder: Embedder, make_query: MakeQuery
) -> None:
    fill(chroma_client, "documents-2", embedder)
    point(chroma_client, "documents", "documents-2")
    assert read(search, make_query) == "of-documents-2"
    chroma_client.delete_collection("documents")
    assert read(search, make_query) == "of-documents-2"
    with pytest.raises(NotFoundError):
        follow(chroma_client, "documents", embedder, top_k=5)


def test_a_look_that_fails_costs_no_query(
    chroma_client: ClientAPI,
    search: Searching,
    embedder: Embedder,
    make_query: MakeQuery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(chroma_client, "documents", embedder)
    fill(chroma_client, "documents-2", embedder)
    assert read(search, make_query) == "of-documents"
    looks = 0

    def away(*_: object, **__: object) -> None:
        nonlocal looks
        looks += 1
        raise httpx.ConnectError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Client, "get_collection", away)
        assert read(search, make_query) == "of-documents"
        assert looks == 1
    point(chroma_client, "documents", "documents-2")
    assert read(search, make_query) == "of-documents-2"


def test_nothing_is_asked_but_the_search_itself_between_two_looks(
    chroma_client: ClientAPI,
    recall_settings: RecallSettings,
    embedder: Embedder,
    make_query: MakeQuery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(chroma_client, "documents", embedder)
    seldom = Searching(recall_settings.model_copy(update={"follow_s": 3_600.0}), embedder)
    assert read(seldom, make_query) == "of-documents"
    monkeypatch.delattr(Client, "get_collection")
    assert read(seldom, make_query) == "of-documents"
    seldom.close()


def test_a_swap_to_another_model_leaves_each_worker_with_the_newest_it_can_read(
    chroma_client: ClientAPI,
    search: Searching,
    searching_settings: RecallSettings,
    embedder: Embedder,
    make_query: MakeQuery,
) -> None:
    fill(chroma_client, "documents", embedder)
    fill(chroma_client, "documents-2", embedder)
    fill(chroma_client, "documents-3", OTHER)
    fill(chroma_client, "documents-4", OTHER)
    assert read(search, make_query) == "of-documents"
    # The one before is what counts, not the name's own.
    point(chroma_client, "documents", "documents-2")
    point(chroma_client, "documents", "documents-3")
    assert read(search, make_query) == "of-documents-2"
    restarted = Searching(searching_settings, OTHER)
    assert read(restarted, make_query) == "of-documents-3"
    # A second one of the new model does not make the old workers' forgotten.
    point(chroma_client, "documents", "documents-4")
    assert (read(search, make_query), read(restarted, make_query)) == ("of-documents-2", "of-documents-4")
    # Nor does a way back leave those with the new one without any.
    point(chroma_client, "documents", "documents-2")
    assert (read(search, make_query), read(restarted, make_query)) == ("of-documents-2", "of-documents-4")
    restarted.close()


def test_a_worker_for_which_nothing_is_readable_fails_at_its_start_and_goes_on_if_it_runs(
    chroma_client: ClientAPI,
    search: Searching,
    searching_settings: RecallSettings,
    embedder: Embedder,
    make_query: MakeQuery,
) -> None:
    fill(chroma_client, "documents-1", embedder)
    point(chroma_client, "documents", "documents-1")
    assert read(search, make_query) == "of-documents-1"
    fill(chroma_client, "documents-2", OTHER)
    fill(chroma_client, "documents-3", THIRD)
    point(chroma_client, "documents", "documents-2")
    point(chroma_client, "documents", "documents-3")
    assert read(search, make_query) == "of-documents-1"
    started = Searching(searching_settings, embedder)
    with pytest.raises(FatalError, match="'documents-3' holds vectors of 'third-model'"):
        read(started, make_query)
    started.close()
    with pytest.raises(IncompatibleCollectionError):
        follow(chroma_client, "documents", embedder, top_k=5)


def test_every_collection_is_listed_with_its_model(chroma_client: ClientAPI, embedder: Embedder) -> None:
    names = {f"documents-{number}" for number in range(205)}
    for name in names:
        chroma_client.create_collection(name, embedding_function=None)
    fill(chroma_client, "filled", embedder)
    listed = {each.name: model_of(each) for each in all_collections(chroma_client)}
    assert listed == {**dict.fromkeys(names, (None, None)), "filled": ("fake-hash", 16)}


def test_a_pointer_is_what_its_metadata_says(chroma_client: ClientAPI) -> None:
    pointer = Pointer("documents", "documents-3", before="documents-2", alone=True)
    made = chroma_client.create_collection("documents", embedding_function=None, metadata=pointer.as_metadata)
    assert Pointer.of(made) == pointer
    assert pointer.readable == ["documents-3", "documents-2"]
    assert Pointer("documents").readable == ["documents"]
