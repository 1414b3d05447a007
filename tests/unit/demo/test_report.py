"""What is printed of an answer event, on the examples of the contract."""

from datetime import UTC, datetime

from rich.console import Console

from schemas.events import Answer, AnswerEvent, AnswerStatus, CandidateInfo, ContextInfo, Degradation, Models, Timings
from worker.demo.latencies import quantile
from worker.demo.report import latency_table, move, print_answer


def candidate(number: int, rerank_rank: int, score: float | None = 1.0) -> dict[str, object]:
    return {
        "document_id": f"d{number}",
        "text": f"text {number}",
        "metadata": {"title": f"Title {number}"},
        "recall_rank": number,
        "distance": 0.1,
        "rerank_rank": rerank_rank,
        "rerank_score": score,
    }


def printed(**changes: object) -> str:
    ranks = {1: 3, 2: 4, 3: 2, 4: 1}
    event = AnswerEvent.model_validate(
        {
            "query_id": "q",
            "query_text": "Why?",
            "status": "ok",
            "contexts": [ContextInfo.model_validate(candidate(4, 1)), ContextInfo.model_validate(candidate(3, 2))],
            "candidates": [CandidateInfo.model_validate(candidate(n, rank)) for n, rank in ranks.items()],
            "answer": Answer(text="Because [1].", citations=["d4"], model="tiny"),
            "timings_ms": Timings(queue=1, recall=2, rerank=1_234, answer=4, total=1_241),
            "models": Models(),
            "worker": "w",
            "answered_at": datetime.now(UTC),
            **changes,
        }
    )
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - closed with the process
    print_answer(console, event)
    return console.export_text()


def test_kept_candidates_show_their_move_and_the_others_are_dropped() -> None:
    text = printed()
    assert "4 → 1 ▲3" in text
    assert "3 → 2 ▲1" in text
    assert text.count("dropped") == 2
    assert "Because [1]." in text
    assert "cites: d4" in text
    assert "rerank 1,234 ms" in text


def test_nothing_good_enough_is_said_so() -> None:
    text = printed(status=AnswerStatus.NO_CONTEXT, contexts=[], answer=None)
    assert "Not in the documents" in text
    assert text.count("dropped") == 4


def test_a_degraded_answer_names_what_failed() -> None:
    text = printed(status="degraded", answer=None, degradations=[Degradation(stage="answer", reason="503")])
    assert "Degraded: answer: 503" in text


def test_candidates_nobody_scored_show_no_score() -> None:
    assert " - " in printed(candidates=[candidate(1, 1, None)], contexts=[candidate(1, 1, None)])


def test_every_line_fits_eighty_columns() -> None:
    assert max(map(len, printed().splitlines())) <= 80


def test_moves_up_down_and_none() -> None:
    assert [move(4, 1).plain, move(1, 2).plain, move(2, 2).plain] == ["4 → 1 ▲3", "1 → 2 ▼1", "2 → 2 ="]


def test_latencies_are_shown_in_milliseconds() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as above
    console.print(latency_table({"recall": (0.0042, 0.51)}))
    assert "4.2 ms" in console.export_text()


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = {0.1: 50.0, 0.2: 90.0, 0.5: 100.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == 0.1
    assert abs(quantile(buckets, 0.7) - 0.15) < 1e-9
    assert quantile({0.1: 0.0, float("inf"): 5.0}, 0.95) == 0.1
