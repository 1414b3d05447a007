"""What is printed of an answer event: of the contract's own examples, and of a ranking with every kind of move."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from schemas.contexts import ContextsEvent
from schemas.events import AnswerEvent
from worker.cli.render import move, print_answer, stamp, waiting

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"


def example(name: str, **changes: Any) -> AnswerEvent:
    event = json.loads((EXAMPLES / f"answer-event.{name}.json").read_text())
    return AnswerEvent.model_validate(event | changes)


def candidate(recall_rank: int, rerank_rank: int, score: float | None = 1.0) -> dict[str, Any]:
    return {
        "document_id": f"d{recall_rank}",
        "text": f"A text that is long enough to be cut at the end of the line, number {recall_rank}, and then some.",
        "metadata": {"title": f"Title {recall_rank}"},
        "recall_rank": recall_rank,
        "distance": 0.1,
        "rerank_rank": rerank_rank,
        "rerank_score": score,
    }


def ranked(*rerank_ranks: int, top_n: int) -> dict[str, Any]:
    """Candidates in recall order with these ranks after reranking, and the contexts kept of them."""
    candidates = [candidate(recall, rerank) for recall, rerank in enumerate(rerank_ranks, 1)]
    kept = sorted((c for c in candidates if c["rerank_rank"] <= top_n), key=lambda c: int(c["rerank_rank"]))
    return {"candidates": candidates, "contexts": kept}


def printed(answer: AnswerEvent, columns: int = 80) -> str:
    console = Console(width=columns, record=True, file=io.StringIO())
    print_answer(console, answer)
    return console.export_text()


def line_of(text: str, part: str) -> str:
    [line] = [line for line in text.splitlines() if part in line]
    return line


def test_what_was_kept_shows_its_move_and_the_rest_is_dropped() -> None:
    text = printed(example("ok", **ranked(3, 4, 2, 1, top_n=2)))
    assert "4 → 1 ▲3" in line_of(text, "Title 4")
    assert "3 → 2 ▲1" in line_of(text, "Title 3")
    assert "dropped" in line_of(text, "Title 1")
    assert text.count("dropped") == 2


def test_candidates_stand_in_recall_order() -> None:
    text = printed(example("ok", **ranked(3, 4, 2, 1, top_n=2)))
    assert [text.index(f"Title {number}") for number in range(1, 5)] == sorted(
        text.index(f"Title {number}") for number in range(1, 5)
    )


def test_what_was_kept_from_far_down_is_shown_and_the_dropped_tail_is_counted() -> None:
    text = printed(example("ok", **ranked(*range(2, 21), 1, top_n=1)))
    assert "20 → 1 ▲19" in line_of(text, "Title 20")
    assert "… and 13 more, dropped" in text


def test_an_answer_is_shown_with_what_it_cites() -> None:
    text = printed(example("ok"))
    assert "It needs SELECT, RELOAD" in text
    assert "mysql-grants" in line_of(text, "[1] mysql-grants")
    assert "by gpt-4.1-mini" in text
    assert "without a citation" not in text


def test_a_cited_document_keeps_its_id_however_long_its_title_is() -> None:
    document = candidate(1, 1) | {"document_id": "the-id", "metadata": {"title": "Long " * 30}}
    answer = {"text": "So [1].", "citations": ["the-id"], "model": "tiny"}
    assert "[1] the-id  Long" in printed(example("ok", contexts=[document], candidates=None, answer=answer))


def test_an_answer_that_cites_nothing_says_so() -> None:
    answer = {"text": "Some permissions.", "citations": [], "model": "tiny"}
    assert "by tiny, without a citation" in printed(example("ok", answer=answer))


def test_brackets_in_texts_are_text_and_not_markup() -> None:
    answer = {"text": "Because [bold]of[/bold] this [1].", "citations": [], "model": "tiny"}
    assert "[bold]of[/bold] this [1]." in printed(example("ok", answer=answer, query_text="Why [red]?"))
    assert "Why [red]?" in printed(example("ok", answer=answer, query_text="Why [red]?"))


def test_a_document_without_a_title_is_named_once() -> None:
    untitled = candidate(1, 1) | {"document_id": "j1", "metadata": {}}
    answer = {"text": "So [1].", "citations": ["j1"], "model": "tiny"}
    text = printed(example("ok", contexts=[untitled], candidates=None, answer=answer))
    assert line_of(text, "[1] j1").strip("│ ") == "[1] j1"


def test_times_are_shown_per_stage() -> None:
    assert "recall 12 ms · rerank 48 ms · answer 730 ms · total 793 ms" in printed(example("ok"))


@pytest.mark.parametrize("columns", range(20, 100))
def test_no_line_ends_between_a_number_and_its_unit(columns: int) -> None:
    timings = {"queue": 14.0, "recall": 1030.0, "rerank": 12560.0, "answer": 13046.0, "total": 26650.0}
    text = printed(example("ok", timings_ms=timings), columns)
    for each in ("queue 14 ms", "recall 1.03 s", "rerank 12.56 s", "answer 13.05 s", "total 26.65 s"):
        assert each in text


def test_an_answer_among_many_is_told_by_its_time_and_id_in_one_line() -> None:
    one = example("ok", answered_at="2026-01-31T13:00:03.5+01:00", query_id="a\nb")
    assert stamp(one).plain == "2026-01-31 12:00:03 UTC  a b"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no-context", "Not in the documents"),
        ("expired", "Too late"),
        ("degraded-answer", "Degraded: answer: "),
        ("degraded-rerank", "Degraded: rerank: "),
        ("contexts-only", "No answer was asked for."),
        ("extractive", "by extractive"),
    ],
)
def test_however_a_query_ended_it_is_told(name: str, told: str) -> None:
    assert told in printed(example(name))


def test_candidates_nobody_scored_show_no_score() -> None:
    unscored = candidate(1, 1, None)
    assert (
        line_of(printed(example("ok", candidates=[unscored], contexts=[unscored])), "Title 1")
        .split("Title")[0]
        .split()[-1]
        == "-"
    )


@pytest.mark.parametrize("name", sorted(path.name.split(".")[1] for path in EXAMPLES.glob("answer-event.*.json")))
def test_every_line_fits_eighty_columns(name: str) -> None:
    assert max(map(len, printed(example(name)).splitlines())) <= 80


def test_moves_up_down_and_none() -> None:
    assert [move(4, 1).plain, move(1, 2).plain, move(2, 2).plain] == ["4 → 1 ▲3", "1 → 2 ▼1", "2 → 2 ="]


def test_a_failure_is_told_with_its_code() -> None:
    assert "Failed (unknown_collection): there is no collection" in printed(example("failed"))


def shown_meanwhile(name: str | None) -> str:
    """What stands on a terminal until an answer is there."""
    path = EXAMPLES / f"contexts-event.{name}.json"
    contexts = None if name is None else ContextsEvent.model_validate_json(path.read_bytes())
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(waiting(contexts))
    return console.export_text()


def test_until_the_contexts_are_there_it_says_what_is_waited_for() -> None:
    assert "waiting for the answer" in shown_meanwhile(None)


def test_contexts_are_shown_as_their_answer_will_show_them() -> None:
    text = shown_meanwhile("reranked")
    assert "What permissions does Debezium need on MySQL?  contexts" in text
    assert "4 → 1 ▲3" in line_of(text, "mysql-grants")
    assert "the answer is being written" in text
    assert "Degraded" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_contexts_nobody_scored_are_shown_as_such() -> None:
    text = shown_meanwhile("degraded-rerank")
    assert "Degraded: rerank: the candidates could not be scored" in text
    assert " - " in line_of(text, "snapshot-locks")
