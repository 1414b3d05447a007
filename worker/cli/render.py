"""An answer event on a terminal: what `ask`, `tail` and the demo print of one."""

from collections.abc import Sequence

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from schemas import wire
from schemas.contexts import ContextsEvent
from schemas.events import Answer, AnswerEvent, AnswerStatus, CandidateInfo, ContextInfo, Degradation

# Enough to see what was dropped without scrolling past what was kept.
CANDIDATES_SHOWN = 6
STATUS_STYLE = {
    AnswerStatus.OK: "green",
    AnswerStatus.DEGRADED: "yellow",
    AnswerStatus.NO_CONTEXT: "yellow",
    AnswerStatus.EXPIRED: "red",
    AnswerStatus.FAILED: "red",
}


def print_answer(console: Console, answer: AnswerEvent) -> None:
    """Print one answer: candidates and contexts, the text with its citations, the time per stage."""
    parts: list[RenderableType] = []
    if answer.candidates or answer.contexts:
        parts.append(_ranking(answer.candidates or answer.contexts, answer.contexts))
    parts += [_answer(answer), Text(), _timings(answer)]
    console.print(_panel(answer.query_text, (answer.status.value, STATUS_STYLE[answer.status]), parts))


def waiting(contexts: ContextsEvent | None = None) -> RenderableType:
    """Return what is shown until the answer is there: what it will rest on, as soon as that is known."""
    if contexts is None:
        return Spinner("dots", "waiting for the answer")
    parts: list[RenderableType] = [_ranking(contexts.contexts, contexts.contexts)]
    parts += [Text(_reasons(contexts.degradations), style="yellow")] if contexts.degradations else []
    found = ("contexts", "cyan")
    return Group(_panel(contexts.query_text, found, parts), Spinner("dots", "the answer is being written"))


def stamp(answer: AnswerEvent) -> Text:
    """Return when it was answered, and the query's id: what tells one of many from another."""
    # Whoever asks chooses the id: it may be of several lines.
    at = f"{answer.answered_at:%Y-%m-%d %H:%M:%S} UTC"
    return Text(f"{at}  {wire.one_line(answer.query_id)}", "dim", no_wrap=True, overflow="ignore")


def move(recall_rank: int, rerank_rank: int) -> Text:
    """Return how far reranking moved a candidate: `4 → 1 ▲3`."""
    moved = recall_rank - rerank_rank
    path = f"{recall_rank} → {rerank_rank} "
    if moved > 0:
        return Text(f"{path}▲{moved}", style="green")
    if moved < 0:
        return Text(f"{path}▼{-moved}", style="red")
    return Text(f"{path}=", style="dim")


def duration(seconds: float) -> str:
    """Return a time in a unit that reads well: `4.2 ms`, `510 ms`, `2.50 s`."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    # Whole milliseconds would make nothing of a fast stage.
    return f"{milliseconds:.1f} ms" if 0 < milliseconds < 10 else f"{milliseconds:.0f} ms"  # noqa: PLR2004 - as said


def _panel(question: str, told: tuple[str, str], parts: Sequence[RenderableType]) -> Panel:
    title = Text.assemble((question, "bold"), "  ", told)
    return Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, padding=(0, 1))


def _ranking(candidates: Sequence[CandidateInfo], contexts: Sequence[ContextInfo]) -> Table:
    kept = {context.document_id for context in contexts}
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("recall", justify="right", width=6)
    table.add_column("reranked", width=11, no_wrap=True)
    table.add_column("score", justify="right", width=6)
    table.add_column("document", ratio=1, no_wrap=True, overflow="ellipsis")
    shown = _shown(candidates, kept)
    for candidate in shown:
        is_kept = candidate.document_id in kept
        table.add_row(
            str(candidate.recall_rank),
            move(candidate.recall_rank, candidate.rerank_rank) if is_kept else "dropped",
            "-" if candidate.rerank_score is None else f"{candidate.rerank_score:.2f}",
            _label(candidate, is_kept=is_kept),
            style=None if is_kept else "dim",
        )
    if hidden := len(candidates) - len(shown):
        table.add_row("", "", "", Text(f"… and {hidden} more, dropped", style="dim"))
    return table


def _shown(candidates: Sequence[CandidateInfo], kept: set[str]) -> list[CandidateInfo]:
    """Return those worth a line: the first ones, and what was kept from further down."""
    return [
        candidate
        for candidate in candidates
        if candidate.recall_rank <= CANDIDATES_SHOWN or candidate.document_id in kept
    ]


def _label(candidate: CandidateInfo, *, is_kept: bool) -> Text:
    text = " ".join(candidate.text.split())
    return Text.assemble((_title(candidate), "bold" if is_kept else ""), "  ", (text, "dim"))


def _title(candidate: CandidateInfo) -> str:
    return str(candidate.metadata.get("title", candidate.document_id))


def _answer(answer: AnswerEvent) -> RenderableType:
    if answer.answer is not None:
        return Group(Text(answer.answer.text), *_citations(answer.answer, answer.contexts))
    if answer.degradations:
        return Text(_reasons(answer.degradations), style="yellow")
    if answer.failure is not None:
        return Text(f"Failed ({answer.failure.code}): {answer.failure.reason}", style="red")
    told = {
        AnswerStatus.NO_CONTEXT: "Not in the documents: nothing reached the minimum score, so nothing was made up.",
        AnswerStatus.EXPIRED: "Too late: the query's deadline had passed.",
    }
    return Text(told.get(answer.status, "No answer was asked for."), style="yellow" if answer.status in told else "dim")


def _reasons(degradations: Sequence[Degradation]) -> str:
    return f"Degraded: {'; '.join(f'{each.stage}: {each.reason}' for each in degradations)}"


def _citations(answer: Answer, contexts: Sequence[ContextInfo]) -> list[Text]:
    """Return the documents the answer cites, as it numbers them: by their place among the contexts."""
    cited = [
        Text.assemble(
            (f"[{number}] ", "cyan"),
            context.document_id,
            # Documents without a title are called by their id.
            ("" if _title(context) == context.document_id else f"  {_title(context)}", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )
        for number, context in enumerate(contexts, 1)
        if context.document_id in answer.citations
    ]
    return [*cited, Text(f"by {answer.model}" if cited else f"by {answer.model}, without a citation", "dim")]


def _timings(answer: AnswerEvent) -> Columns:
    *stages, last = (f"{stage} {duration(ms / 1000)}" for stage, ms in answer.timings_ms.model_dump().items())
    # In columns, for a line of text may break between a number and its unit.
    return Columns([Text(each, "dim", no_wrap=True) for each in (*(f"{stage} ·" for stage in stages), last)])
