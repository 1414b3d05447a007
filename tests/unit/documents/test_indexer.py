from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromadb.api import ClientAPI

from tests.lexical import CrashError, crash_at_random, texts_of_both
from worker.documents import indexer
from worker.documents.chunker import Chunker
from worker.documents.document import Document, ParsedRecord, Rejected
from worker.documents.indexer import COMMIT_CHUNKS, Indexer, IngestReport
from worker.errors import FatalError
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.lexical.index import LexicalIndex

MakeDocument = Callable[..., Document]
Index = Callable[..., IngestReport]
LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen."


@pytest.fixture
def index(new_indexer: Callable[[], Indexer], chunker: Chunker) -> Index:
    def run(*records: ParsedRecord, skip_rejected: bool = False) -> IngestReport:
        return new_indexer().index(records, chunker, skip_rejected=skip_rejected, progress=lambda _: None)

    return run


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.skipped, report.deleted


def stored(client: ClientAPI) -> dict[str, str]:
    found = client.get_collection("documents", embedding_function=None).get()
    return dict(zip(found["ids"], found["documents"], strict=True))


def test_documents_are_indexed_chunk_by_chunk(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    report = index(make_document("a", LONG), make_document("b", "Short."))
    assert counts(report) == (4, 0, 0, 0)
    assert (report.documents, report.empty, report.rejected) == (2, 0, 0)
    assert set(stored(chroma_client)) == {"a", "a#2", "a#3", "b"}


def test_indexing_again_embeds_and_writes_nothing(index: Index, make_document: MakeDocument, embedder: Any) -> None:
    documents = [make_document("a", LONG), make_document("b", "Short.")]
    index(*documents)
    embedder.batches.clear()
    assert counts(index(*documents)) == (0, 0, 4, 0)
    assert embedder.batches == []


def test_only_what_changed_is_embedded_again(
    index: Index, make_document: MakeDocument, embedder: Any, chroma_client: ClientAPI
) -> None:
    index(make_document("a", "Old."), make_document("b", "Same."))
    embedder.batches.clear()
    assert counts(index(make_document("a", "New."), make_document("b", "Same."))) == (0, 1, 1, 0)
    assert embedder.batches == [["New."]]
    assert stored(chroma_client) == {"a": "New.", "b": "Same."}


def test_metadata_that_is_no_longer_there_goes(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    index(make_document("a", LONG, topic="x", lang="en"))
    index(make_document("a", "Short now.", topic="y"))
    found = chroma_client.get_collection("documents", embedding_function=None).get()
    assert {key: value for key, value in found["metadatas"][0].items() if key[0] != "_"} == {"topic": "y"}


def test_what_a_source_no_longer_holds_is_deleted_and_other_sources_are_left_alone(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    index(make_document("a", LONG), make_document("b", "Gone."), make_document("c", "Other.", source="other.jsonl"))
    assert counts(index(make_document("a", "Short now."))) == (0, 1, 0, 3)
    assert stored(chroma_client) == {"a": "Short now.", "c": "Other."}


def test_rejected_records_are_all_listed_when_the_others_are_in(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    bad = [Rejected("corpus.jsonl", f"corpus.jsonl:{line}", "not JSON") for line in (2, 5)]
    with pytest.raises(FatalError, match=r"(?s)2 of the records.*jsonl:2: not JSON.*jsonl:5: not JSON.*--skip-invalid"):
        index(make_document("a", "One."), bad[0], make_document("b", "Two."), bad[1], make_document("c", "Three."))
    assert set(stored(chroma_client)) == {"a", "b", "c"}


def test_of_very_many_rejected_records_some_are_listed_and_all_are_counted(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "REJECTED_LISTED", 2)
    with pytest.raises(FatalError, match=r"(?s)5 of the records.*:1: bad.*… and 3 more"):
        index(*(Rejected("corpus.jsonl", f"corpus.jsonl:{line}", "bad") for line in range(5)))


def test_an_id_of_another_source_is_refused_and_stays_what_it_is(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    index(make_document("1", "A's document", source="team-a.jsonl"), make_document("9", "A's", source="team-a.jsonl"))
    theirs = [
        make_document("1", "B's document", source="team-b.jsonl"),
        make_document("2", "B's", source="team-b.jsonl"),
    ]
    with pytest.raises(FatalError, match=r"team-b.jsonl:1: the id '1' is already that of .*'team-a.jsonl'.*--adopt"):
        index(*theirs)
    assert stored(chroma_client) == {"1": "A's document", "9": "A's", "2": "B's"}
    # Nor is it deleted when the other source holds it no longer.
    assert counts(index(theirs[1])) == (0, 0, 1, 0)
    assert stored(chroma_client) == {"1": "A's document", "9": "A's", "2": "B's"}


def test_a_long_document_with_an_id_of_another_source_leaves_no_part_behind(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    index(make_document("1", "A's document", source="team-a.jsonl"))
    report = index(make_document("1", LONG, source="team-b.jsonl"), skip_rejected=True)
    assert (report.added, report.rejected) == (0, 1)
    assert stored(chroma_client) == {"1": "A's document"}


def test_a_source_that_is_adopted_is_taken_over(
    connection: ChromaConnection,
    embedder: Any,
    chunker: Chunker,
    index: Index,
    make_document: MakeDocument,
    chroma_client: ClientAPI,
) -> None:
    index(make_document("1", "Text", source="old.jsonl"))
    taking = Indexer(connection, embedder, collection="documents", top_k=5, adopted=["old.jsonl"])
    moved = [make_document("1", "Text", source="new.jsonl"), make_document("2", "More", source="new.jsonl")]
    taking.index(moved, chunker, skip_rejected=False, progress=lambda _: None)
    assert counts(index(moved[1])) == (0, 0, 1, 1)
    assert stored(chroma_client) == {"2": "More"}


def test_a_source_with_skipped_records_keeps_what_it_seems_to_have_lost(
    index: Index, make_document: MakeDocument, chroma_client: ClientAPI
) -> None:
    index(make_document("a", "One."), make_document("b", "Two."))
    rejected = Rejected("corpus.jsonl", "corpus.jsonl:2", "not JSON")
    report = index(make_document("a", "One."), rejected, skip_rejected=True)
    assert counts(report) == (0, 0, 1, 0)
    assert report.rejected == 1
    assert set(stored(chroma_client)) == {"a", "b"}


def test_an_id_used_twice_is_rejected_with_both_places(index: Index, make_document: MakeDocument) -> None:
    first = make_document("a", "One.")
    second = replace(make_document("a", "Two."), origin="corpus.jsonl:9")
    with pytest.raises(FatalError, match=r"corpus\.jsonl:9: the id 'a' is already that of corpus\.jsonl:a"):
        index(first, second)


def test_empty_documents_are_counted_and_left_out(index: Index, make_document: MakeDocument) -> None:
    report = index(make_document("a", " \n "), make_document("b", "Two."))
    assert (report.documents, report.empty, report.added) == (2, 1, 1)


def test_a_collection_of_another_model_is_refused(index: Index, chroma_client: ClientAPI) -> None:
    chroma_client.create_collection("documents", embedding_function=None, metadata={"embedding_model": "another"})
    with pytest.raises(FatalError, match="'another'"):
        index()


def test_an_interrupted_run_keeps_its_batches_and_the_next_one_does_the_rest(
    index: Index,
    new_indexer: Callable[[], Indexer],
    chunker: Chunker,
    make_document: MakeDocument,
    chroma_client: ClientAPI,
    embedder: Any,
) -> None:
    documents = [make_document(str(number), f"Text {number}.") for number in range(2 * COMMIT_CHUNKS + 10)]
    index(make_document("old", "Still here until a run is complete."))
    committed: list[IngestReport] = []

    def until_interrupted() -> Iterator[Document]:
        yield from documents[: COMMIT_CHUNKS + 50]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_indexer().index(until_interrupted(), chunker, skip_rejected=False, progress=committed.append)
    assert [report.added for report in committed] == [COMMIT_CHUNKS]
    assert "old" in stored(chroma_client)

    embedder.batches.clear()
    assert counts(index(*documents)) == (COMMIT_CHUNKS + 10, 0, COMMIT_CHUNKS, 1)
    assert sum(map(len, embedder.batches)) == COMMIT_CHUNKS + 10


@pytest.mark.parametrize("seed", [1, 2])
def test_the_lexical_file_is_what_the_collection_is_after_runs_that_died(
    new_indexer: Callable[..., Indexer],
    chunker: Chunker,
    make_document: MakeDocument,
    chroma_client: ClientAPI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    folder, crashes = tmp_path / "lexical", 0
    new_indexer(lexical=LexicalIndex(folder))
    collection = chroma_client.get_collection("documents", embedding_function=None)
    draw = crash_at_random(monkeypatch, seed)
    for run in range(30):
        texts = {f"d{number}": f"Text {number} of run {draw.randrange(run + 1)}." for number in range(8)}
        kept = [make_document(name, text) for name, text in texts.items() if draw.random() < 0.7]
        done = not kept
        while not done:
            try:
                indexer = new_indexer(lexical=LexicalIndex(folder))
                indexer.index(kept, chunker, skip_rejected=False, progress=lambda _: None)
                done = True
            except (CrashError, FatalError):
                crashes += 1
        words, held = texts_of_both(folder, collection)
        assert words == held
    assert crashes > 5
    assert held


def test_a_lexical_file_begun_later_holds_what_was_there_before(
    index: Index, new_indexer: Callable[..., Indexer], chunker: Chunker, make_document: MakeDocument, tmp_path: Path
) -> None:
    index(make_document("old", "From before.", source="old.jsonl"))
    indexer = new_indexer(lexical=LexicalIndex(tmp_path))
    indexer.index([make_document("new", "From now.")], chunker, skip_rejected=False, progress=lambda _: None)
    words, held = texts_of_both(tmp_path, indexer._collection)
    assert words == held == {"old": "From before", "new": "From now"}
