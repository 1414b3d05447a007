"""What the demo and `ask` print of an answer event."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.events import AnswerEvent, AnswerStatus, CandidateInfo

# Enough to see what was dropped without scrolling past what was kept.
CANDIDATES_SHOWN = 8
STATUS_STYLE = {
    AnswerStatus.OK: "green",
    AnswerStatus.DEGRADED: "yellow",
    AnswerStatus.NO_CONTEXT: "yellow",
    AnswerStatus.EXPIRED: "red",
}


def print_answer(console: Console, answer: AnswerEvent) -> None:
    """Print one answer: candidates and contexts, the text with its citations, the time per stage."""
    parts: list[RenderableType] = []
    if answer.candidates or answer.contexts:
        parts.append(_ranking(answer))
    parts.append(_answer(answer))
    parts.append(_timings(answer))
    title = Text.assemble(answer.query_text, "  ", (answer.status.value, STATUS_STYLE[answer.status]))
    console.print(Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, padding=(0, 1)))


def move(recall_rank: int, rerank_rank: int) -> Text:
    """Return how far reranking moved a candidate: `4 → 1 ▲3`."""
    moved = recall_rank - rerank_rank
    path = f"{recall_rank} → {rerank_rank} "
    if moved > 0:
        return Text(f"{path}▲{moved}", style="green")
    if moved < 0:
        return Text(f"{path}▼{-moved}", style="red")
    return Text(f"{path}=", style="dim")


def latency_table(quantiles: Mapping[str, tuple[float, float]]) -> Table:
    """Return a table of p50 and p95 per stage, given in seconds."""
    table = Table(
        title="Latency, from the worker's own /metrics", box=box.SIMPLE_HEAD, title_justify="left", min_width=40
    )
    table.add_column("stage", ratio=1)
    table.add_column("p50", justify="right")
    table.add_column("p95", justify="right")
    for stage, (p50_s, p95_s) in quantiles.items():
        table.add_row(stage, _milliseconds(p50_s), _milliseconds(p95_s))
    return table


def _ranking(answer: AnswerEvent) -> Table:
    kept = {context.document_id for context in answer.contexts}
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("recall", justify="right", width=6)
    table.add_column("move", width=12, no_wrap=True)
    table.add_column("score", justify="right", width=7)
    table.add_column("document", ratio=1, no_wrap=True, overflow="ellipsis")
    shown = _shown(answer.candidates or answer.contexts, kept)
    for candidate in shown:
        is_kept = candidate.document_id in kept
        score = "-" if candidate.rerank_score is None else f"{candidate.rerank_score:.2f}"
        table.add_row(
            str(candidate.recall_rank),
            move(candidate.recall_rank, candidate.rerank_rank) if is_kept else Text("dropped", style="dim"),
            score,
            _label(candidate),
            style=None if is_kept else "dim",
        )
    hidden = len(answer.candidates or answer.contexts) - len(shown)
    if hidden:
        table.add_row("", "", "", Text(f"… and {hidden} more, dropped", style="dim"))
    return table


def _shown(candidates: Sequence[CandidateInfo], kept: set[str]) -> list[CandidateInfo]:
    return [
        candidate
        for candidate in candidates
        if candidate.recall_rank <= CANDIDATES_SHOWN or candidate.document_id in kept
    ]


def _label(candidate: CandidateInfo) -> Text:
    title = str(candidate.metadata.get("title", candidate.document_id))
    return Text.assemble((title, "bold"), "  ", (candidate.text.replace("\n", " "), "dim"))


def _answer(answer: AnswerEvent) -> RenderableType:
    if answer.answer is not None:
        cited = ", ".join(answer.answer.citations) or "none given"
        return Text.assemble(
            answer.answer.text, "\n", ("cites: ", "dim"), (cited, "cyan"), ("   by: ", "dim"), answer.answer.model
        )
    if answer.status is AnswerStatus.NO_CONTEXT:
        return Text(
            "Not in the documents: nothing reached the minimum score, so the LLM was not asked.", style="yellow"
        )
    if answer.degradations:
        reasons = "; ".join(f"{each.stage}: {each.reason}" for each in answer.degradations)
        return Text(f"Degraded: {reasons}", style="yellow")
    return Text("No answer was asked for." if answer.status is AnswerStatus.OK else "Too late.", style="dim")


def _timings(answer: AnswerEvent) -> Text:
    stages = answer.timings_ms.model_dump()
    return Text("  ".join(f"{stage} {_milliseconds(ms / 1000)}" for stage, ms in stages.items()), style="dim")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004 - 10 ms
