"""A document stands in one collection of several, whatever its events say and however often they come. Real Chroma."""

from collections.abc import Callable
from typing import Any

import pytest
from chromadb.api import ClientAPI

from worker.documents.document import Document
from worker.documents.indexer import Indexer
from worker.documents.stream.changes import Change
from worker.documents.stream.collections import DocumentCollections
from worker.errors import PoisonError

MakeChange = Callable[..., Change]
LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen."


@pytest.fixture
def collections(new_collections: Callable[..., DocumentCollections]) -> DocumentCollections:
    return new_collections("documents", "tenant-a", "tenant-b")


def held(client: ClientAPI, collection: str) -> set[str]:
    return set(client.get_collection(collection, embedding_function=None).get()["ids"])


def where(client: ClientAPI) -> dict[str, set[str]]:
    return {name: chunks for name in ("documents", "tenant-a", "tenant-b") if (chunks := held(client, name))}


def test_documents_of_one_batch_go_where_each_belongs(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    changes = [make_change("a", LONG, 0, collection="tenant-a"), make_change("b", "B.", 1), make_change("c", None, 2)]
    assert collections.apply(changes) == ["written", "written", "absent"]
    assert where(chroma_client) == {"documents": {"b"}, "tenant-a": {"a", "a#2", "a#3"}}


def test_a_document_that_moves_leaves_nothing_behind(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    collections.apply([make_change("a", LONG, 0, collection="tenant-a")])
    assert collections.apply([make_change("a", LONG, 1, collection="tenant-b")]) == ["written"]
    assert where(chroma_client) == {"tenant-b": {"a", "a#2", "a#3"}}


def test_a_delete_finds_the_document_wherever_it_is(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    collections.apply([make_change("a", LONG, 0, collection="tenant-b"), make_change("b", "B.", 1)])
    assert collections.apply([make_change("a", None, 2)]) == ["deleted"]
    assert where(chroma_client) == {"documents": {"b"}}


def test_an_older_event_does_not_bring_a_document_back_to_where_it_was(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    collections.apply([make_change("a", "Old.", 5, collection="tenant-a")])
    collections.apply([make_change("a", "New.", 6, collection="tenant-b")])
    assert collections.apply([make_change("a", "Old.", 5, collection="tenant-a")]) == ["superseded"]
    assert collections.apply([make_change("a", None, 4)]) == ["superseded"]
    assert where(chroma_client) == {"tenant-b": {"a"}}


def test_a_move_that_was_broken_off_is_finished_when_it_comes_again(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections.apply([make_change("a", LONG, 0, collection="tenant-a")])

    def broken(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr("worker.documents.stream.store.DocumentStore.remove", broken)
        with pytest.raises(ConnectionError):
            collections.apply([make_change("a", LONG, 1, collection="tenant-b")])
    assert where(chroma_client).keys() == {"tenant-a", "tenant-b"}, "never gone in between"
    assert collections.apply([make_change("a", LONG, 1, collection="tenant-b")]) == ["unchanged"]
    assert where(chroma_client) == {"tenant-b": {"a", "a#2", "a#3"}}


def test_a_document_without_text_leaves_where_it_was(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    collections.apply([make_change("a", LONG, 0, collection="tenant-a")])
    assert collections.apply([make_change("a", " ", 1, collection="tenant-b")]) == ["deleted"]
    assert where(chroma_client) == {}


def test_what_can_not_go_where_it_should_stays_where_it_was(
    collections: DocumentCollections,
    make_change: MakeChange,
    new_indexer: Callable[[], Indexer],
    make_document: Callable[..., Document],
    chunker: Any,
    chroma_client: ClientAPI,
) -> None:
    new_indexer().index([make_document("a", "A file's.")], chunker, skip_rejected=False, progress=lambda _: None)
    collections.apply([make_change("a", LONG, 0, collection="tenant-a")])
    [refused] = collections.apply([make_change("a", LONG, 1)])
    assert isinstance(refused, PoisonError)
    assert where(chroma_client) == {"documents": {"a"}, "tenant-a": {"a", "a#2", "a#3"}}


def test_what_belongs_elsewhere_leaves_the_collections_that_are_kept_here(
    new_collections: Callable[..., DocumentCollections], make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    # As with `--into`: of all collections that events may name, this process fills one.
    collections = new_collections("documents")
    collections.apply([make_change("a", LONG, 0)])
    assert collections.apply([make_change("a", LONG, 1, collection="tenant-a")]) == ["deleted"]
    assert collections.apply([make_change("b", LONG, 2, collection="tenant-a")]) == ["absent"]
    assert held(chroma_client, "documents") == set()


def test_a_change_whose_partition_has_left_moves_nothing(
    collections: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    collections.apply([make_change("a", LONG, 0, collection="tenant-a")])
    change = make_change("a", LONG, 1, collection="tenant-b")
    change.abandoned = True
    assert collections.apply([change]) == ["abandoned"]
    assert where(chroma_client) == {"tenant-a": {"a", "a#2", "a#3"}}
