import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from threading import Barrier, BrokenBarrierError, Event
from typing import Any

import pytest
from chromadb.api import ClientAPI

from tests.patience import HANG_S
from worker.batching.batcher import BatchReport
from worker.domain import Candidate, Query
from worker.errors import ExpiredError, FatalError, PoisonError, TransientError
from worker.recall import stage
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import StoreLostError
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import Embedder, Vectors
from worker.recall.stage import BatchedRecall
from worker.settings import RecallSettings

MakeQuery = Callable[..., Query]
TEXTS = [f"passage {number}" for number in range(12)]


class FakeHangingSearch:
    """Hangs until released, then finds nothing."""

    def __init__(self) -> None:
        self.begun, self.release = Event(), Event()

    def find(self, queries: Sequence[Query], _vectors: Vectors, **_: object) -> list[Sequence[Candidate]]:
        self.begun.set()
        self.release.wait(timeout=HANG_S)
        return [[] for _ in queries]

    def close(self) -> None:
        pass


class FakeEmptySearch(FakeHangingSearch):
    """Finds nothing at once."""

    def __init__(self) -> None:
        super().__init__()
        self.release.set()


@pytest.fixture
def hanging() -> Iterator[FakeHangingSearch]:
    search = FakeHangingSearch()
    yield search
    search.release.set()


@pytest.fixture
def batches() -> list[BatchReport]:
    return []


@pytest.fixture
def embedded() -> list[BatchReport]:
    return []


@pytest.fixture
async def recall(
    recall_settings: RecallSettings,
    chroma_client: ClientAPI,
    embedder: Embedder,
    embedded: list[BatchReport],
    batches: list[BatchReport],
) -> AsyncIterator[BatchedRecall]:
    make_collection(chroma_client, "documents", embedder, top_k=5).upsert(
        ids=TEXTS, documents=TEXTS, embeddings=embedder.embed_documents(TEXTS)
    )
    settings = recall_settings.model_copy(update={"max_wait_ms": 200.0, "max_batch": 8})
    recall = BatchedRecall(
        embedder,
        partial(ChromaSearch, settings, embedder),
        settings,
        on_embedded=embedded.append,
        on_batch=batches.append,
    )
    await recall.start()
    embedded.clear()
    batches.clear()
    yield recall
    await recall.close()


async def all_tasks_waiting() -> None:
    """Let every task run on until it waits for something outside the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_concurrent_queries_are_embedded_together_and_searched_for_side_by_side(
    recall: BatchedRecall, make_query: MakeQuery, embedded: list[BatchReport], batches: list[BatchReport]
) -> None:
    found = await asyncio.gather(*(recall.recall(make_query(text)) for text in TEXTS[:8]))
    assert [candidates[0].text for candidates in found] == TEXTS[:8]
    await all_tasks_waiting()
    assert [batch.items for batch in embedded] == [8]
    assert [batch.items for batch in batches] == [2, 2, 2, 2]


async def test_a_query_that_fails_leaves_the_others_of_its_batch_alone(
    recall: BatchedRecall, make_query: MakeQuery
) -> None:
    first, rejected, last = await asyncio.gather(
        recall.recall(make_query("passage 1")),
        recall.recall(make_query("passage 2", where={"a": {"$foo": 1}})),
        recall.recall(make_query("passage 3")),
        return_exceptions=True,
    )
    assert first[0].text == "passage 1"
    assert last[0].text == "passage 3"
    assert isinstance(rejected, PoisonError)


async def test_an_embedder_that_fails_is_transient(
    recall: BatchedRecall, embedder: Any, make_query: MakeQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Sequence[str]) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(embedder, "embed_queries", fail)
    with pytest.raises(TransientError, match="CUDA error"):
        await recall.recall(make_query("x"))


async def test_questions_are_embedded_while_those_before_them_are_searched_for(
    hanging: FakeHangingSearch, embedder: Any, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    settings = recall_settings.model_copy(update={"concurrency": 1})
    recall = BatchedRecall(embedder, lambda: hanging, settings)
    first = asyncio.create_task(recall.recall(make_query("first")))
    await asyncio.to_thread(hanging.begun.wait, HANG_S)
    second = asyncio.create_task(recall.recall(make_query("second")))
    async with asyncio.timeout(HANG_S):
        while embedder.batches != [["first"], ["second"]]:
            await asyncio.sleep(0.01)
    assert not first.done()
    hanging.release.set()
    assert await asyncio.gather(first, second) == [[], []]
    await recall.close()


async def test_a_thread_on_which_queries_hang_is_known_to_who_looks_for_one(
    hanging: FakeHangingSearch, embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    recall = BatchedRecall(embedder, lambda: hanging, recall_settings)
    asked = asyncio.create_task(recall.recall(make_query("x")))
    await asyncio.to_thread(hanging.begun.wait, HANG_S)
    threads = {thread.name: thread for thread in recall.threads}
    assert threads["recall-1"].busy_since_s is not None
    assert threads["recall-2"].busy_since_s is None
    assert "embed" in threads
    hanging.release.set()
    await asked
    await recall.close()


async def test_a_cancelled_query_leaves_the_queue(
    hanging: FakeHangingSearch, embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    reports: list[BatchReport] = []
    settings = recall_settings.model_copy(update={"concurrency": 1})
    recall = BatchedRecall(embedder, lambda: hanging, settings, on_batch=reports.append)
    running = asyncio.create_task(recall.recall(make_query("running")))
    await asyncio.to_thread(hanging.begun.wait, 10)
    waiting = [asyncio.create_task(recall.recall(make_query(name))) for name in ("cancelled", "kept")]
    await all_tasks_waiting()
    waiting[0].cancel()
    hanging.release.set()
    await asyncio.gather(running, waiting[1])
    assert waiting[0].cancelled()
    assert [report.items for report in reports] == [1, 1]
    await recall.close()


async def test_a_query_whose_deadline_passes_in_the_queue_is_never_searched_for(
    hanging: FakeHangingSearch, embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    reports: list[BatchReport] = []
    settings = recall_settings.model_copy(update={"concurrency": 1})
    recall = BatchedRecall(embedder, lambda: hanging, settings, on_batch=reports.append, unix_time_s=lambda: 1_000.0)
    running = asyncio.create_task(recall.recall(make_query("running")))
    await asyncio.to_thread(hanging.begun.wait, 10)
    with pytest.raises(ExpiredError):
        await recall.recall(make_query("late", deadline_s=1_000.05))
    hanging.release.set()
    await running
    assert [report.items for report in reports] == [1]
    await recall.close()


async def test_closing_ends_every_query(
    hanging: FakeHangingSearch, embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    settings = recall_settings.model_copy(update={"concurrency": 1})
    recall = BatchedRecall(embedder, lambda: hanging, settings)
    running = asyncio.create_task(recall.recall(make_query("running")))
    await asyncio.to_thread(hanging.begun.wait, 10)
    waiting = asyncio.create_task(recall.recall(make_query("waiting")))
    await all_tasks_waiting()
    closing = asyncio.create_task(recall.close())
    for query in (running, waiting):
        with pytest.raises(FatalError, match="the recall stage has ended"):
            await query
    hanging.release.set()
    await closing
    with pytest.raises(FatalError, match="the recall stage has ended"):
        await recall.recall(make_query("late"))


async def test_a_stage_whose_batcher_died_is_fatal_rather_than_dead_lettering_for_ever(
    hanging: FakeHangingSearch, embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    def broken_observer(_: BatchReport) -> None:
        raise RuntimeError("observer")

    hanging.release.set()
    recall = BatchedRecall(embedder, lambda: hanging, recall_settings, on_batch=broken_observer)
    await recall.recall(make_query("first"))
    with pytest.raises(FatalError, match="the recall stage has ended"):
        await recall.recall(make_query("second"))
    await recall.close()


class FakeDyingSearch:
    """Dies of the query `killer`, and takes down with it what is under way at that moment; one store for all slots."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.company = Barrier(2)

    def find(self, queries: Sequence[Query], _vectors: Vectors, **_: object) -> list[Sequence[Candidate] | Exception]:
        [name] = [query.id for query in queries]
        self.asked.append(name)
        dies = False
        if name != "filtered":
            first_time = self.asked.count(name) == 1
            dies = self._in_company(HANG_S if first_time else 0.3) or name == "killer"
        return [StoreLostError("Chroma at http://store:8000 broke off") if dies else []]

    def close(self) -> None:
        pass

    def _in_company(self, wait_s: float) -> bool:
        try:
            self.company.wait(wait_s)
        except BrokenBarrierError:
            self.company.reset()
            return False
        return True


async def test_a_query_that_was_searched_for_at_two_deaths_of_the_store_is_set_aside_and_no_neighbour_is(
    embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    search = FakeDyingSearch()
    settings = recall_settings.model_copy(update={"patience_s": 600.0})
    failures: list[str] = []
    recall = BatchedRecall(embedder, lambda: search, settings, on_failure=failures.append)
    killer, neighbour, filtered = await asyncio.gather(
        recall.recall(make_query("killer")),
        recall.recall(make_query("neighbour")),
        recall.recall(make_query("filtered", where={"a": 1})),
        return_exceptions=True,
    )
    assert isinstance(killer, PoisonError)
    assert killer.reason == "store_crashed"
    assert "http" not in str(killer), "who reads dead letters need not know the host"
    assert neighbour == []
    assert filtered == []
    assert search.asked.count("killer") == search.asked.count("neighbour") == 2
    # Of the killer's two tries and its neighbour's first.
    assert failures == ["store_lost"] * 3
    await recall.close()


async def test_a_filter_that_takes_its_time_keeps_nobody_without_one_waiting(
    hanging: FakeHangingSearch, embedder: Embedder, recall_settings: RecallSettings, make_query: MakeQuery
) -> None:
    searches = iter([FakeEmptySearch(), hanging])
    settings = recall_settings.model_copy(update={"concurrency": 1})
    recall = BatchedRecall(embedder, lambda: next(searches), settings)
    filtered = asyncio.create_task(recall.recall(make_query("slow", where={"a": 1})))
    await asyncio.to_thread(hanging.begun.wait, HANG_S)
    async with asyncio.timeout(HANG_S):
        assert await recall.recall(make_query("plain")) == []
    assert not filtered.done()
    hanging.release.set()
    assert await filtered == []
    await recall.close()


async def test_a_start_on_another_models_collection_is_refused(
    chroma_client: ClientAPI, embedder: Embedder, recall_settings: RecallSettings
) -> None:
    chroma_client.create_collection("documents", embedding_function=None, metadata={"embedding_model": "another"})
    recall = BatchedRecall(embedder, partial(ChromaSearch, recall_settings, embedder), recall_settings)
    with pytest.raises(FatalError, match="another"):
        await recall.start()
    await recall.close()


async def test_a_missing_default_collection_is_told_until_it_is_there_without_any_query(
    recall_settings: RecallSettings,
    chroma_client: ClientAPI,
    embedder: Embedder,
    make_query: MakeQuery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "RECHECK_S", 0.01)
    settings = recall_settings.model_copy(update={"patience_s": HANG_S})
    recall = BatchedRecall(embedder, partial(ChromaSearch, settings, embedder), settings)
    await recall.start()
    assert "'documents'" in (recall.why_not_ready or "")
    waiting = asyncio.create_task(recall.recall(make_query("x")))
    await all_tasks_waiting()
    make_collection(chroma_client, "documents", embedder, top_k=5)
    async with asyncio.timeout(HANG_S):
        while recall.why_not_ready is not None:
            await asyncio.sleep(0.01)
        assert await waiting == []
    await recall.close()
