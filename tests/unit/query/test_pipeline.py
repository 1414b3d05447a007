"""The stages in order, and every way a query can leave them."""

from collections.abc import Sequence

import pytest

from tests.fakes.stages import FakeAnswerer, FakeRecall, FakeReversingReranker
from worker.domain import Candidate, Context, Query
from worker.errors import ExpiredError, FatalError, PoisonError, TransientError
from worker.query.pipeline import Outcome, Pipeline, keep
from worker.settings import Settings

NOW_S = 1_000.0


def a_query(**changes: object) -> Query:
    return Query(**{"id": "q1", "text": "why?", "collection": "docs", "top_k": 20, "top_n": 2, **changes})  # type: ignore[arg-type]  # a factory of overrides


def a_pipeline(
    recall: FakeRecall | None = None,
    reranker: FakeReversingReranker | None = None,
    answerer: FakeAnswerer | None = None,
    **settings: object,
) -> Pipeline:
    return Pipeline(
        recall or FakeRecall(),
        reranker or FakeReversingReranker(),
        answerer or FakeAnswerer(),
        Settings(**settings),  # type: ignore[arg-type]  # sections given as plain dictionaries
        unix_time_s=lambda: NOW_S,
    )


def ids(contexts: Sequence[Context]) -> list[str]:
    return [context.candidate.document_id for context in contexts]


async def test_contexts_are_the_best_of_the_reranked_candidates() -> None:
    outcome = await a_pipeline().run(a_query())
    assert outcome.status == "ok"
    assert ids(outcome.ranking) == ["d3", "d2", "d1"]
    assert ids(outcome.contexts) == ["d3", "d2"]
    assert outcome.answer is not None
    assert outcome.answer.citations == ["d3"]
    assert set(outcome.seconds) == {"recall", "rerank", "answer"}


async def test_a_leg_of_recall_that_is_away_is_said_and_costs_no_answer() -> None:
    outcome = await a_pipeline(FakeRecall(lacks="lexical_missing")).run(a_query())
    assert outcome.status == "degraded"
    assert outcome.failures == {"recall": "lexical_missing"}
    assert outcome.answer is not None


async def test_nothing_recalled_ends_without_reranker_and_llm() -> None:
    answerer = FakeAnswerer()
    outcome = await a_pipeline(FakeRecall(found=0), answerer=answerer).run(a_query())
    assert outcome.status == "no_context"
    assert set(outcome.seconds) == {"recall"}
    assert answerer.asked == []


async def test_contexts_below_the_minimum_score_never_reach_the_llm() -> None:
    answerer = FakeAnswerer()
    outcome = await a_pipeline(answerer=answerer).run(a_query(min_score=3.5))
    assert outcome.status == "no_context"
    assert outcome.contexts == []
    assert ids(outcome.ranking) == ["d3", "d2", "d1"]
    assert answerer.asked == []


async def test_generate_false_leaves_the_answer_out() -> None:
    outcome = await a_pipeline().run(a_query(generate=False))
    assert outcome.status == "ok"
    assert outcome.answer is None
    assert "answer" not in outcome.seconds


async def test_a_failing_llm_degrades_to_the_contexts() -> None:
    busy = TransientError("chat.internal answered 503", code="llm_unavailable")
    outcome = await a_pipeline(answerer=FakeAnswerer(busy)).run(a_query())
    assert outcome.status == "degraded"
    assert outcome.failures == {"answer": "llm_unavailable"}
    assert outcome.answer is None
    assert ids(outcome.contexts) == ["d3", "d2"]


async def test_a_failing_reranker_degrades_to_recall_order_without_inventing_scores() -> None:
    outcome = await a_pipeline(reranker=FakeReversingReranker(TransientError("oom"))).run(a_query())
    assert outcome.status == "degraded"
    assert ids(outcome.contexts) == ["d1", "d2"]
    assert [context.rerank_score for context in outcome.contexts] == [None, None]
    assert outcome.answer is not None


async def test_a_minimum_score_nobody_could_check_keeps_the_llm_out() -> None:
    outcome = await a_pipeline(reranker=FakeReversingReranker(TransientError("oom"))).run(a_query(min_score=0.0))
    assert outcome.status == "degraded"
    assert outcome.answer is None
    assert ids(outcome.contexts) == ["d1", "d2"]


@pytest.mark.parametrize("stage", ["rerank", "answer"])
async def test_a_failure_without_a_code_has_that_of_its_stage(stage: str) -> None:
    error = TransientError("no words of this leave the worker")
    outcome = await a_pipeline(
        reranker=FakeReversingReranker(error if stage == "rerank" else None),
        answerer=FakeAnswerer(error if stage == "answer" else None),
    ).run(a_query())
    assert outcome.failures == {stage: f"{stage}_failed"}


@pytest.mark.parametrize("stage", ["rerank", "answer"])
async def test_degrading_can_be_forbidden(stage: str) -> None:
    broken = (
        {"reranker": FakeReversingReranker(TransientError("down"))}
        if stage == "rerank"
        else {"answerer": FakeAnswerer(TransientError("down"))}
    )
    pipeline = a_pipeline(**broken, **{stage: {"on_failure": "dead_letter"}})  # type: ignore[arg-type]  # as above
    with pytest.raises(TransientError, match="down"):
        await pipeline.run(a_query())


@pytest.mark.parametrize("error", [PoisonError("unknown_collection", "no"), FatalError("no"), TransientError("no")])
async def test_what_recall_raises_is_not_softened(error: Exception) -> None:
    with pytest.raises(type(error)):
        await a_pipeline(FakeRecall(error=error)).run(a_query())


async def test_a_query_past_its_deadline_costs_nothing() -> None:
    outcome = await a_pipeline().run(a_query(deadline_s=NOW_S))
    assert outcome.status == "expired"
    assert outcome.seconds == {}


async def test_a_deadline_that_passes_on_the_way_stops_before_the_next_stage() -> None:
    clock = iter([NOW_S, NOW_S + 2])
    pipeline = Pipeline(
        FakeRecall(), FakeReversingReranker(), FakeAnswerer(), Settings(), unix_time_s=lambda: next(clock)
    )
    outcome = await pipeline.run(a_query(deadline_s=NOW_S + 1))
    assert outcome.status == "expired"
    assert set(outcome.seconds) == {"recall"}
    assert outcome.contexts == ()
    assert ids(outcome.ranking) == ["d1", "d2", "d3"]


async def test_a_deadline_that_passes_before_the_answer_leaves_the_llm_unasked() -> None:
    clock = iter([NOW_S, NOW_S, NOW_S + 2])
    answerer = FakeAnswerer()
    pipeline = Pipeline(FakeRecall(), FakeReversingReranker(), answerer, Settings(), unix_time_s=lambda: next(clock))
    outcome = await pipeline.run(a_query(deadline_s=NOW_S + 1))
    assert outcome.status == "expired"
    assert answerer.asked == []


@pytest.mark.parametrize("stage", ["recall", "rerank", "answer"])
async def test_a_stage_that_says_it_is_too_late_leaves_the_query_expired_and_not_degraded(stage: str) -> None:
    late = ExpiredError("too late")
    pipeline = a_pipeline(
        FakeRecall(error=late if stage == "recall" else None),
        FakeReversingReranker(late if stage == "rerank" else None),
        FakeAnswerer(late if stage == "answer" else None),
    )
    # By the pipeline's own clock there is a moment left: the two clocks need not agree to the microsecond.
    outcome = await pipeline.run(a_query(deadline_s=NOW_S + 0.001))
    assert outcome.status == "expired"
    assert outcome.failures == {}
    # As far as it came.
    assert ids(outcome.ranking) == {"recall": [], "rerank": ["d1", "d2", "d3"], "answer": ["d3", "d2", "d1"]}[stage]


async def test_contexts_are_told_before_the_answer_is_made_of_them() -> None:
    answerer = FakeAnswerer()
    told: list[list[str]] = []

    def tell(outcome: Outcome) -> None:
        assert answerer.asked == []
        assert outcome.answer is None
        assert set(outcome.seconds) == {"recall", "rerank"}
        told.append(ids(outcome.contexts))

    outcome = await a_pipeline(answerer=answerer).run(a_query(), tell)
    assert outcome.answer is not None
    assert told == [ids(outcome.contexts)] == [["d3", "d2"]]


async def test_contexts_are_told_in_recall_order_where_reranking_failed() -> None:
    told: list[tuple[list[str], dict[str, str]]] = []
    pipeline = a_pipeline(reranker=FakeReversingReranker(TransientError("oom")))
    await pipeline.run(a_query(), lambda outcome: told.append((ids(outcome.contexts), dict(outcome.failures))))
    assert told == [(["d1", "d2"], {"rerank": "rerank_failed"})]


NOT_TOLD: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "nothing recalled": ({"recall": FakeRecall(found=0)}, {}),
    "nothing good enough": ({}, {"min_score": 3.5}),
    "no answer asked for": ({}, {"generate": False}),
    "nobody could check the minimum": ({"reranker": FakeReversingReranker(TransientError("oom"))}, {"min_score": 0}),
    "too late": ({}, {"deadline_s": NOW_S}),
    "too late after recall": ({"reranker": FakeReversingReranker(ExpiredError("too late"))}, {}),
}


@pytest.mark.parametrize(("stages", "query"), NOT_TOLD.values(), ids=NOT_TOLD.keys())
async def test_contexts_are_not_told_where_no_answer_is_to_be_waited_for(
    stages: dict[str, object], query: dict[str, object]
) -> None:
    told: list[Outcome] = []
    await a_pipeline(**stages).run(a_query(**query), told.append)  # type: ignore[arg-type]  # as above
    assert told == []


def test_keep_cuts_at_top_n_and_at_the_minimum_score() -> None:
    ranking = [
        Context(Candidate(f"d{n}", "", n, 0.0), n, rerank_score=score, logit=score)
        for n, score in enumerate([5.0, 2.0, 1.0], 1)
    ]
    assert ids(keep(ranking, a_query(top_n=2))) == ["d1", "d2"]
    assert ids(keep(ranking, a_query(top_n=3, min_score=1.5))) == ["d1", "d2"]
    assert ids(keep(ranking, a_query(top_n=3, min_score=1.0))) == ["d1", "d2", "d3"]


async def test_a_stage_that_gave_up_after_the_deadline_leaves_the_query_expired() -> None:
    times = iter([NOW_S, NOW_S + 1])
    pipeline = Pipeline(
        FakeRecall(error=TransientError("away")),
        FakeReversingReranker(),
        FakeAnswerer(),
        Settings(),
        unix_time_s=lambda: next(times),
    )
    outcome = await pipeline.run(a_query(deadline_s=NOW_S + 1))
    assert outcome.status == "expired"
