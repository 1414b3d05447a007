"""An answer that was paid for is not paid for again: the store on its file, and the answerer that asks it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.answer.conftest import CONTEXTS, QUERY
from worker.answer import cache as store_module
from worker.answer.cache import AnswerCache, CachedAnswerer
from worker.domain import Context, GeneratedAnswer, Query, Usage
from worker.errors import FatalError, TransientError
from worker.settings import AnswerSettings

ANSWER = GeneratedAnswer("Because [1]. Schön.", ["d1"], "tiny", Usage(11, 7))


class CountingAnswerer:
    """Answers, and counts what it costs."""

    model_name = "tiny"

    def __init__(self, *, fails: bool = False) -> None:
        self.asked = 0
        self._fails = fails

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        self.asked += 1
        if self._fails:
            raise TransientError("down")
        return ANSWER


@asynccontextmanager
async def opened(path: Path, **changes: object) -> AsyncIterator[AnswerCache]:
    options = {"ttl_s": 60.0, "max_answers": 1_000, **changes}
    store = AnswerCache(path, **options)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def answering(
    path: Path, inner: CountingAnswerer, lookups: list[str], **settings: object
) -> AsyncIterator[CachedAnswerer]:
    async with opened(path) as store:
        yield CachedAnswerer(inner, store, AnswerSettings.model_validate(settings), on_lookup=lookups.append)


async def test_a_query_delivered_again_after_a_restart_is_not_paid_for(tmp_path: Path) -> None:
    lookups: list[str] = []
    first, second = CountingAnswerer(), CountingAnswerer()
    async with answering(tmp_path / "new" / "answers", first, lookups) as stored:
        assert await stored.answer(QUERY, CONTEXTS) == ANSWER
    async with answering(tmp_path / "new" / "answers", second, lookups) as stored:
        assert await stored.answer(QUERY, CONTEXTS) == ANSWER
    assert (first.asked, second.asked) == (1, 0)
    assert lookups == ["miss", "hit"]


@pytest.mark.parametrize(
    ("query", "contexts", "settings"),
    [
        (replace(QUERY, id="other"), CONTEXTS, {}),
        (replace(QUERY, text="How?"), CONTEXTS, {}),
        (QUERY, CONTEXTS[:1], {}),
        (QUERY, [CONTEXTS[0]._replace(candidate=replace(CONTEXTS[0].candidate, text="edited")), CONTEXTS[1]], {}),
        (QUERY, CONTEXTS, {"max_tokens": 7}),
        (QUERY, CONTEXTS, {"temperature": 0.5}),
    ],
    ids=["id", "question", "contexts", "text", "length", "temperature"],
)
async def test_another_request_is_another_answer(
    tmp_path: Path, query: Query, contexts: Sequence[Context], settings: dict[str, object]
) -> None:
    inner = CountingAnswerer()
    async with answering(tmp_path / "answers", inner, []) as stored:
        await stored.answer(QUERY, CONTEXTS)
    async with answering(tmp_path / "answers", inner, [], **settings) as stored:
        await stored.answer(query, contexts)
    assert inner.asked == 2


async def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    lookups: list[str] = []
    async with answering(tmp_path / "answers", CountingAnswerer(fails=True), lookups) as stored:
        for _ in range(2):
            with pytest.raises(TransientError):
                await stored.answer(QUERY, CONTEXTS)
    assert lookups == ["miss", "miss"]


async def test_an_answer_has_its_time(tmp_path: Path) -> None:
    now_s = 1_000.0
    async with opened(tmp_path / "answers", ttl_s=10.0, unix_time_s=lambda: now_s) as store:
        await store.put("key", ANSWER)
        now_s = 1_009.0
        assert await store.get("key") == ANSWER
        now_s = 1_010.0
        assert await store.get("key") is None


async def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SWEEP_EVERY", 1)
    now_s = 0.0
    async with opened(tmp_path / "answers", max_answers=3, unix_time_s=lambda: now_s) as store:
        for number in range(5):
            now_s = float(number)
            await store.put(str(number), ANSWER)
        assert [await store.get(str(number)) is not None for number in range(5)] == [False, False, True, True, True]


async def test_what_is_no_store_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    path.write_text("this was never a database, but it is somebody's " * 100)
    async with opened(path) as store:
        await store.put("key", ANSWER)
        assert await store.get("key") == ANSWER
    assert (tmp_path / "answers.unreadable").read_text().startswith("this was never")


async def test_a_store_of_another_layout_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    async with opened(path) as store:
        assert await store.get("key") is None
    assert (tmp_path / "answers.unreadable").exists()


async def test_a_place_that_takes_no_file_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FatalError, match=r"answer\.store_path"):
        AnswerCache(tmp_path / "file" / "answers", ttl_s=1.0, max_answers=1)


async def test_a_store_that_fails_costs_an_llm_call_and_no_query(tmp_path: Path) -> None:
    inner, lookups = CountingAnswerer(), []
    async with answering(tmp_path / "answers", inner, lookups) as stored:
        breaking = sqlite3.connect(tmp_path / "answers")
        breaking.execute("DROP TABLE answers")
        breaking.close()
        assert await stored.answer(QUERY, CONTEXTS) == ANSWER
    assert inner.asked == 1
    assert lookups == ["failed"]


async def test_two_workers_share_a_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "answers") as one, opened(tmp_path / "answers") as other:
        await asyncio.gather(
            *[store.put(f"{name}{n}", ANSWER) for name, store in (("a", one), ("b", other)) for n in range(50)]
        )
        assert await one.get("b49") == await other.get("a49") == ANSWER
