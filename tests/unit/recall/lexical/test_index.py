"""A lexical file follows its collection: filled from a real Chroma, kept by many writers at once."""

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from tests.patience import HANG_S
from worker.recall.chroma_collections import make_collection
from worker.recall.embedder import Embedder
from worker.recall.lexical import database
from worker.recall.lexical import index as index_module
from worker.recall.lexical.file import LexicalFile
from worker.recall.lexical.index import LexicalIndex, new_lexical_index, path_of
from worker.settings import RecallSettings

TEXTS = {f"d{number}": f"passage {number}" for number in range(7)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lexical"


@pytest.fixture
def index(folder: Path) -> Iterator[LexicalIndex]:
    index = LexicalIndex(folder)
    yield index
    index.close()


@pytest.fixture
def collection(chroma_client: ClientAPI, embedder: Embedder) -> Collection:
    collection = make_collection(chroma_client, "documents", embedder, top_k=5)
    vectors = embedder.embed_documents(list(TEXTS.values()))
    collection.upsert(ids=list(TEXTS), embeddings=vectors, documents=list(TEXTS.values()))
    return collection


@pytest.fixture
def ids(folder: Path, collection: Collection) -> Callable[[], set[str]]:
    def read() -> set[str]:
        file = LexicalFile(path_of(folder, collection))
        found = file.ids()
        file.close()
        return found

    return read


def test_a_file_is_filled_from_the_collection_page_by_page(
    index: LexicalIndex, collection: Collection, ids: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PAGE", 3)
    asked: list[int] = []

    def ask(operation: Callable[[Collection], Any]) -> Any:
        found = operation(collection)
        asked.append(len(found["ids"]))
        return found

    assert index.fill(collection, ask) == 7
    assert asked == [7, 3, 3, 1]
    assert ids() == TEXTS.keys()
    # There is nothing to ask for the next time.
    assert index.fill(collection, ask) is None
    assert len(asked) == 4


def test_what_is_deleted_while_a_file_is_filled_makes_nothing_else_missing(
    index: LexicalIndex, collection: Collection, ids: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PAGE", 3)
    begun = False

    def ask(operation: Callable[[Collection], Any]) -> Any:
        nonlocal begun
        found = operation(collection)
        if not begun:
            begun = True
            collection.delete(ids=["d0", "d1", "d4"])
        return found

    assert index.fill(collection, ask) == 4
    assert ids() == {"d2", "d3", "d5", "d6"}


def test_a_document_without_text_has_no_words(
    index: LexicalIndex, collection: Collection, embedder: Embedder, ids: Callable[[], set[str]]
) -> None:
    collection.upsert(ids=["mute"], embeddings=embedder.embed_documents(["x"]))
    index.fill(collection, lambda operation: operation(collection))
    assert ids() == TEXTS.keys()


def test_collections_have_files_of_their_own_and_so_has_one_that_is_made_anew(
    folder: Path, chroma_client: ClientAPI, collection: Collection, embedder: Embedder
) -> None:
    former, other = (
        path_of(folder, collection),
        path_of(folder, make_collection(chroma_client, "others", embedder, top_k=5)),
    )
    chroma_client.delete_collection("documents")
    anew = path_of(folder, make_collection(chroma_client, "documents", embedder, top_k=5))
    assert len({former, other, anew}) == 3


def write(path: Path, begin: Any, writer: int) -> None:
    file = LexicalFile(path, writes=True)
    begin.wait(HANG_S)
    for number in range(40):
        file.put({f"w{writer}-{number}": f"passage {number}", "shared": f"of {writer} and {number}"})
        file.delete([f"w{writer}-{number - 1}"])
    file.close()


def test_many_processes_write_one_file_from_its_making_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", HANG_S)
    context = multiprocessing.get_context("fork")
    begin, path = context.Barrier(4), folder / "words.sqlite3"
    writers = [context.Process(target=write, args=(path, begin, number)) for number in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(HANG_S)
    assert [each.exitcode for each in writers] == [0] * 4
    file = LexicalFile(path)
    assert file.ids() == {"shared", *(f"w{number}-39" for number in range(4))}
    file.close()


def test_no_folder_no_index(recall_settings: RecallSettings, folder: Path) -> None:
    assert new_lexical_index(recall_settings) is None
    assert new_lexical_index(recall_settings.model_copy(update={"lexical_path": folder})) is not None
