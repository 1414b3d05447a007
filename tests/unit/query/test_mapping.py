"""What an answer event says of a ranking."""

from dataclasses import replace

from schemas.events import AnswerEvent, Models, QueryEvent
from worker.domain import Candidate, Context, GeneratedAnswer
from worker.query.mapping import Attempt, answer_event, query_from
from worker.query.pipeline import Outcome, in_recall_order
from worker.settings import Settings

CANDIDATES = [Candidate(f"d{rank}", f"passage {rank}", rank, 0.1) for rank in (1, 2, 3)]


def described(outcome: Outcome) -> AnswerEvent:
    event = QueryEvent(id="q", text="Why?", include_candidates=True)
    return answer_event(
        event,
        query_from(event, asked_at_s=0.0, settings=Settings()),
        outcome,
        Attempt("a", "w", asked_at_s=0.0, begun_at_s=0.0),
        models=Models(),
        now_s=1.0,
    )


def published(ranking: list[Context]) -> list[dict[str, object]]:
    answer = described(Outcome(ranking=ranking, contexts=ranking[:1]))
    assert answer.candidates is not None
    assert [context.model_dump() for context in answer.contexts] == [
        next(c for c in answer.candidates if c.document_id == answer.contexts[0].document_id).model_dump()
    ]
    return [candidate.model_dump() for candidate in answer.candidates]


def test_candidates_say_how_much_of_them_was_read() -> None:
    read = [(1, False), (8, True), (None, None)]
    ranking = [Context(candidate, 4 - candidate.recall_rank, 1.0, 1.0, *read.pop(0)) for candidate in CANDIDATES]
    assert [(c["rerank_windows"], c["truncated"]) for c in published(ranking[::-1])] == [
        (1, False),
        (8, True),
        (None, None),
    ]


def test_candidates_nobody_judged_were_read_by_nobody() -> None:
    assert {(c["rerank_windows"], c["truncated"]) for c in published(list(in_recall_order(CANDIDATES)))} == {
        (None, None)
    }


def test_candidates_say_which_leg_found_them_where_there_are_two() -> None:
    legs = [("dense", "lexical"), ("lexical",), None]
    found = [replace(candidate, legs=legs.pop(0)) for candidate in CANDIDATES]
    assert [c["legs"] for c in published(list(in_recall_order(found)))] == [["dense", "lexical"], ["lexical"], None]


def test_the_best_window_of_a_long_document_is_told() -> None:
    [context] = in_recall_order(CANDIDATES[:1])
    [found] = published([context._replace(windows=3, window=(3, 7))])
    assert found["window"] == [3, 7]


def test_an_answer_says_what_of_it_is_cut() -> None:
    made = GeneratedAnswer("Because [1], and", ["d1"], "tiny", truncated=True, prompt_truncated=True)
    answer = described(Outcome(answer=made)).answer
    assert answer is not None
    assert (answer.truncated, answer.prompt_truncated) == (True, True)


def test_a_degradation_has_a_code_and_our_sentence_for_it() -> None:
    told = described(Outcome("degraded", failures={"rerank": "reranker_busy", "answer": "llm_timeout"})).degradations
    assert [(each.stage, each.code) for each in told] == [("rerank", "reranker_busy"), ("answer", "llm_timeout")]
    assert told[1].reason == "the LLM gave no answer in time"
