"""What a collection of a real Chroma holds after changes, whatever was there before and however often they come."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromadb.api import ClientAPI

from tests.lexical import CrashError, crash_at_random, texts_of_both
from tests.patience import HANG_S
from worker.documents.chunker import Chunker
from worker.documents.document import Document
from worker.documents.indexer import Indexer
from worker.documents.stream import store as store_module
from worker.documents.stream.changes import Change
from worker.documents.stream.collections import DocumentCollections
from worker.documents.stream.store import DocumentStore
from worker.errors import FatalError, PoisonError, TransientError
from worker.recall.chroma_collections import DefaultCollectionMissingError
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.lexical.index import LexicalIndex

NewStore = Callable[..., DocumentCollections]
MakeChange = Callable[..., Change]
LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen."
LONGER = LONG + " Fifteen sixteen seventeen eighteen."


@pytest.fixture
def store(new_collections: NewStore) -> DocumentCollections:
    return new_collections()


def held(client: ClientAPI) -> dict[str, str]:
    found = client.get_collection("documents", embedding_function=None).get()
    return dict(zip(found["ids"], found["documents"], strict=True))


def metadata(client: ClientAPI, chunk: str) -> dict[str, Any]:
    return dict(client.get_collection("documents", embedding_function=None).get(ids=[chunk])["metadatas"][0])


def test_documents_of_one_batch_are_written_together(
    store: DocumentCollections, make_change: MakeChange, embedder: Any, chroma_client: ClientAPI
) -> None:
    assert store.apply([make_change("a", LONG, 0), make_change("b", "Short.", 1)]) == ["written", "written"]
    assert set(held(chroma_client)) == {"a", "a#2", "a#3", "b"}
    assert [len(batch) for batch in embedder.batches] == [4]


def test_chunks_are_those_that_ingest_makes(
    store: DocumentCollections,
    make_change: MakeChange,
    new_indexer: Callable[[], Indexer],
    chunker: Chunker,
    chroma_client: ClientAPI,
) -> None:
    store.apply([make_change("a", LONG, 0, lang="en")])
    streamed, marks = held(chroma_client), metadata(chroma_client, "a#2")
    store.apply([make_change("a", None, 1)])
    document = Document("a", LONG, "kafka:docs", "file", {"lang": "en"})
    new_indexer().index([document], chunker, skip_rejected=False, progress=lambda _: None)
    assert held(chroma_client) == streamed
    assert metadata(chroma_client, "a#2") == {key: value for key, value in marks.items() if key != "_document"}


def test_the_same_again_writes_and_embeds_nothing(
    new_collections: NewStore, make_change: MakeChange, embedder: Any
) -> None:
    new_collections().apply([make_change("a", LONG, 0)])
    embedder.batches.clear()
    # After a crash another process gets it once more; and so may a later event say the same.
    assert new_collections().apply([make_change("a", LONG, 0)]) == ["unchanged"]
    assert new_collections().apply([make_change("a", LONG, 7)]) == ["unchanged"]
    assert embedder.batches == []


def test_a_shorter_version_leaves_nothing_of_the_longer_one(
    store: DocumentCollections, make_change: MakeChange, embedder: Any, chroma_client: ClientAPI
) -> None:
    store.apply([make_change("a", LONGER, 0, lang="en")])
    store.apply([make_change("a", "Short now.", 1)])
    assert held(chroma_client) == {"a": "Short now."}
    assert {key for key in metadata(chroma_client, "a") if key[0] != "_"} == set()


def test_only_the_chunks_that_changed_are_embedded(
    store: DocumentCollections, make_change: MakeChange, embedder: Any
) -> None:
    store.apply([make_change("a", LONG, 0)])
    embedder.batches.clear()
    store.apply([make_change("a", LONG.replace("fourteen", "15"), 1)])
    assert embedder.batches == [["Eleven twelve thirteen 15."]]


@pytest.mark.parametrize("later", ["Later.", LONG, LONGER.replace("One", "1")], ids=["short", "long", "longer"])
def test_an_older_event_that_comes_again_undoes_nothing(
    new_collections: NewStore, make_change: MakeChange, chroma_client: ClientAPI, later: str
) -> None:
    store = new_collections()
    store.apply([make_change("a", LONGER, 5)])
    store.apply([make_change("a", later, 6)])
    stands = held(chroma_client)
    for older in (make_change("a", LONGER, 5), make_change("a", None, 4)):
        assert new_collections().apply([older]) == ["superseded"]
        assert held(chroma_client) == stands


def test_a_version_that_only_loses_its_end_is_known_as_the_later_one_too(
    store: DocumentCollections, make_change: MakeChange, embedder: Any, chroma_client: ClientAPI
) -> None:
    # Of what stays nothing is embedded, but its first chunk says that the end has gone for good.
    store.apply([make_change("a", LONGER, 5)])
    gone = held(chroma_client).keys() - {"a"}
    first = held(chroma_client)["a"]
    embedder.batches.clear()
    assert gone
    change = make_change("a", first, 6)
    # Of several chunks the first notes its number, so cut to one it is another.
    assert store.apply([change]) == ["written"]
    assert store.apply([make_change("a", LONGER, 5)]) == ["superseded"]
    assert held(chroma_client).keys() == {"a"}


def test_the_mark_moves_on_where_the_first_chunk_stays(
    store: DocumentCollections, make_change: MakeChange, embedder: Any, chroma_client: ClientAPI
) -> None:
    store.apply([make_change("a", LONG, 5)])
    embedder.batches.clear()
    assert store.apply([make_change("a", LONG.replace("fourteen", "15"), 6)]) == ["written"]
    assert embedder.batches == [["Eleven twelve thirteen 15."]]
    assert store.apply([make_change("a", LONG, 5)]) == ["superseded"]
    assert held(chroma_client)["a#3"] == "Eleven twelve thirteen 15."


def test_a_delete_takes_every_chunk_and_finds_nothing_the_second_time(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    store.apply([make_change("a", LONG, 0), make_change("b", "Stays.", 1)])
    assert store.apply([make_change("a", None, 2)]) == ["deleted"]
    assert store.apply([make_change("a", None, 3)]) == ["absent"]
    assert held(chroma_client) == {"b": "Stays."}


@pytest.mark.parametrize("blank", ["", " \n "], ids=["empty", "blank"])
def test_a_document_without_text_is_not_there(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI, blank: str
) -> None:
    store.apply([make_change("a", LONG, 0)])
    assert store.apply([make_change("a", blank, 1)]) == ["deleted"]
    assert held(chroma_client) == {}


def test_what_files_have_put_there_is_not_touched(
    store: DocumentCollections,
    make_change: MakeChange,
    new_indexer: Callable[[], Indexer],
    make_document: Callable[..., Document],
    chunker: Chunker,
    chroma_client: ClientAPI,
) -> None:
    documents = [make_document("a", "A file's."), make_document("b", "A file's, too.")]
    new_indexer().index(documents, chunker, skip_rejected=False, progress=lambda _: None)
    refused, gone, other = store.apply(
        [make_change("a", "Mine.", 0), make_change("b", None, 1), make_change("c", "Mine.", 2)]
    )
    assert isinstance(refused, PoisonError)
    assert (refused.reason, gone, other) == ("foreign_document", "absent", "written")
    assert held(chroma_client) == {"a": "A file's.", "b": "A file's, too.", "c": "Mine."}


@pytest.mark.parametrize("together", [True, False], ids=["of one batch", "one after the other"])
def test_a_document_whose_id_is_that_of_anothers_chunk_overwrites_nothing(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI, together: bool
) -> None:
    changes = [make_change("USER", LONG, 0), make_change("USER#2", "Two.", 1), make_change("USER#42", "Mine.", 2)]
    outcomes = store.apply(changes) if together else [store.apply([change])[0] for change in changes]
    assert (outcomes[0], outcomes[2]) == ("written", "written")
    assert isinstance(outcomes[1], PoisonError)
    assert held(chroma_client).keys() == {"USER", "USER#2", "USER#3", "USER#42"}
    assert held(chroma_client)["USER#2"] == "Six seven eight nine ten."


def test_lists_in_metadata_can_be_asked_into(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    store.apply([make_change("a", "Ours.", 0, teams=["data", "ops"]), make_change("b", "Theirs.", 1, teams=["hr"])])
    found = chroma_client.get_collection("documents", embedding_function=None).get(
        where={"teams": {"$contains": "ops"}}
    )
    assert found["ids"] == ["a"]


def test_a_change_whose_partition_has_left_is_not_written(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    store.apply([make_change("a", "Old.", 0), make_change("b", "Old.", 1), make_change("c", LONG, 2)])
    left = [make_change("a", "New.", 3), make_change("c", None, 5)]
    for change in left:
        change.abandoned = True
    assert store.apply([left[0], make_change("b", "New.", 4), left[1]]) == ["abandoned", "written", "abandoned"]
    stands = held(chroma_client)
    assert (stands["a"], stands["b"], stands["c#3"]) == ("Old.", "New.", "Eleven twelve thirteen fourteen.")


def test_more_chunks_than_the_store_takes_at_once_go_in_parts(
    new_collections: NewStore, make_change: MakeChange, chroma_client: ClientAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "COMMIT_CHUNKS", 2)
    store = new_collections()
    assert store.apply([make_change("a", LONGER, 0), make_change("b", LONG, 1)]) == ["written", "written"]
    assert len(held(chroma_client)) == 7
    assert store.apply([make_change("a", None, 2), make_change("b", None, 3)]) == ["deleted", "deleted"]
    assert held(chroma_client) == {}


def test_the_steps_of_a_long_call_are_told(
    connection: ChromaConnection,
    embedder: Any,
    chunker: Chunker,
    make_change: MakeChange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Who waits for one call to end must be able to tell a document of a megabyte from a call that hangs.
    monkeypatch.setattr(store_module, "COMMIT_CHUNKS", 2)
    steps: list[int] = []
    store = DocumentStore(
        connection,
        embedder,
        chunker,
        collection="documents",
        source="kafka:docs",
        top_k=5,
        timeout_s=HANG_S,
        on_step=lambda: steps.append(len(embedder.batches)),
    )
    store.write([make_change("a", LONGER, 0), make_change("b", "B.", 1)], {})
    assert steps == [0, 0, 1, 2, 3]


def test_a_write_that_was_broken_off_is_finished_when_it_comes_again(
    new_collections: NewStore,
    make_change: MakeChange,
    embedder: Any,
    chroma_client: ClientAPI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_collections().apply([make_change("a", "Old.", 0)])
    monkeypatch.setattr(store_module, "COMMIT_CHUNKS", 1)
    store, embed = new_collections(), embedder.embed_documents

    def break_at_the_last(texts: list[str]) -> Any:
        if texts[0].startswith("Eleven"):
            raise MemoryError
        return embed(texts)

    monkeypatch.setattr(embedder, "embed_documents", break_at_the_last)
    with pytest.raises(MemoryError):
        store.apply([make_change("a", LONG, 1)])
    assert held(chroma_client).keys() == {"a", "a#2"}
    monkeypatch.undo()
    assert new_collections().apply([make_change("a", LONG, 1)]) == ["written"]
    assert " ".join(held(chroma_client)[chunk] for chunk in ("a", "a#2", "a#3")) == LONG


def test_what_a_crash_has_left_behind_goes_with_the_next_version_of_the_log(
    new_collections: NewStore, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    # Written for an event that compaction has taken since: it does not come again, a later one does.
    new_collections().apply([make_change("a", LONGER, 1)])
    collection = chroma_client.get_collection("documents", embedding_function=None)
    collection.delete(ids=["a"])
    assert new_collections().apply([make_change("a", "Short.", 9)]) == ["written"]
    assert held(chroma_client) == {"a": "Short."}


def test_a_collection_that_is_gone_is_waited_for_and_not_made_anew(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    store.apply([make_change("a", "Text.", 0)])
    chroma_client.delete_collection("documents")
    for _ in range(2):
        with pytest.raises(DefaultCollectionMissingError, match="--into COLLECTION"):
            store.apply([make_change("a", "Text.", 1)])
    assert chroma_client.list_collections() == []


def test_a_collection_of_another_model_ends_the_process(
    store: DocumentCollections, make_change: MakeChange, chroma_client: ClientAPI
) -> None:
    chroma_client.delete_collection("documents")
    chroma_client.create_collection("documents", embedding_function=None, metadata={"embedding_model": "another"})
    with pytest.raises(TransientError):
        store.apply([make_change("a", "Text.", 1)])
    with pytest.raises(FatalError, match="'another'"):
        store.apply([make_change("a", "Text.", 1)])


def test_what_a_document_weighs_in_a_batch_is_its_text(make_change: MakeChange) -> None:
    change = make_change("a", "x" * 99, 0)
    assert (change.chars, replace(change, document=None, collection=None).chars) == (100, 1)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_lexical_file_is_what_the_collection_is_wherever_a_writer_has_died(
    new_collections: NewStore,
    make_change: MakeChange,
    chroma_client: ClientAPI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    folder, crashes = tmp_path / "lexical", 0
    store = new_collections(lexical=LexicalIndex(folder))
    collection = chroma_client.get_collection("documents", embedding_function=None)
    draw = crash_at_random(monkeypatch, seed)
    for offset in range(0, 120, 3):
        wanted = dict.fromkeys(f"d{draw.randrange(6)}" for _ in range(3))
        texts = [draw.choice([None, LONG, LONGER, "Short now.", f"Only {offset}."]) for _ in wanted]
        changes = list(zip(wanted, texts, range(offset, offset + 3), strict=False))
        done = False
        while not done:
            try:
                store.apply([make_change(*each) for each in changes])
                done = True
            except CrashError:
                crashes += 1
                store = new_collections(lexical=LexicalIndex(folder))
        words, held = texts_of_both(folder, collection)
        assert words == held
    assert crashes > 5
    assert held
