"""A report on a terminal of 80 columns: what people need to decide, the last line first in mind."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from worker.evaluation.judge import Judged
from worker.evaluation.measures import PRIMARY
from worker.evaluation.report import Change, Report, Reranked
from worker.evaluation.significance import Difference
from worker.evaluation.thresholds import Threshold
from worker.evaluation.verdict import Outcome, chance, interval, outcome

STYLES: dict[Outcome, str] = {"worth it": "green", "not shown": "yellow", "harmful": "red"}
SHOWN_REFUSALS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of the answerable questions that are refused: the rows of the table of `min_score`."""
INDENT = (0, 0, 0, 2)


def print_report(console: Console, report: Report) -> None:
    """Print each reranker's tables, the comparison if there are several, what could mislead, and the verdict."""
    asked = f"{report.answerable} questions with an answer, {report.unanswerable} without"
    _say(console, f"{report.source}: {asked}; the first {report.top_k} candidates")
    for number, each in enumerate(report.reranked, 1):
        console.print(Text(f"\n{each.name}" if len(report.reranked) == 1 else f"\n{number}  {each.name}", "bold"))
        _reranked(console, report, each)
    if len(report.reranked) > 1:
        _comparison(console, report)
    if report.judge is not None:
        _judge(console, report.judge)
    for warning in report.warnings:
        console.print(Text.assemble(("\nnote: ", "yellow"), warning))
    verdict = report.best.verdict
    console.print(Text(f"\n{verdict.sentence}", f"bold {STYLES[verdict.outcome]}"))


def _reranked(console: Console, report: Report, each: Reranked) -> None:
    table = _table(["", "recall order", "reranked", "difference", "95 % interval", "p"])
    for name in report.measures:
        change = each.differences[name]
        before, after = report.recall.values[name], each.values[name]
        table.add_row(name, f"{before:.3f}", f"{after:.3f}", _signed(change), Text(interval(change)), chance(change))
    console.print(Padding(table, INDENT))
    change = each.differences[PRIMARY]
    _say(console, f"{PRIMARY}: {change.wins} questions better, {change.ties} as before, {change.losses} worse")
    _questions(console, "best", each.best)
    _questions(console, "worst", each.worst)
    _grid(console, each)
    _curve(console, report, each)


def _grid(console: Console, each: Reranked) -> None:
    top_ns = [kept.top_n for kept in each.grid[-1].kept]
    found = [f"{top_n}" for top_n in top_ns]
    table = _table(["top_k", "found", PRIMARY, "gain", "ms", "p95", "pairs", *found])
    for row in each.grid:
        success = {kept.top_n: f"{kept.success:.0%}" for kept in row.kept}
        table.add_row(
            str(row.top_k),
            f"{row.recall:.0%}",
            f"{row.value:.3f}",
            _signed(row.difference),
            "-" if row.mean_ms is None else f"{row.mean_ms:,.0f}",
            "-" if row.p95_ms is None else f"{row.p95_ms:,.0f}",
            f"{row.pairs:,.0f}",
            *(success.get(top_n, "-") for top_n in top_ns),
        )
    console.print(Padding(Text(), INDENT))
    console.print(Padding(table, INDENT))
    _say(
        console,
        "found: of the relevant documents, among the candidates; ms: of a query alone; the last columns: of the "
        "questions, with a relevant document among so many contexts (top_n)",
    )


def _curve(console: Console, report: Report, each: Reranked) -> None:
    rows = list(_shown(each.curve))
    if not rows:
        return
    table = _table(["min_score", "answerable refused", "unanswerable refused", f"contexts of {report.top_n}"])
    for point in rows:
        others = "-" if point.unanswerable_refused is None else f"{point.unanswerable_refused:.0%}"
        table.add_row(f"{point.min_score:.2f}", f"{point.answerable_refused:.0%}", others, f"{point.contexts:.1f}")
    console.print(Padding(Text(), INDENT))
    console.print(Padding(table, INDENT))


def _shown(curve: Sequence[Threshold]) -> Iterable[Threshold]:
    """Choose the highest threshold for each share of refusals that is shown, without repeats."""
    chosen = []
    for share in SHOWN_REFUSALS:
        within = [point for point in curve if point.answerable_refused <= share]
        chosen += within[-1:]
    return {point.min_score: point for point in chosen}.values()


def _comparison(console: Console, report: Report) -> None:
    console.print(Text(f"\n{PRIMARY} side by side, against recall order, and over 1", "bold"))
    for number, each in enumerate(report.reranked, 1):
        _say(console, f"{number}  {each.name}")
    table = _table(["", PRIMARY, "gain", "95 % interval", "ms", "over 1", "95 % interval"])
    table.add_row("recall", f"{report.recall.values[PRIMARY]:.3f}")
    for number, each in enumerate(report.reranked, 1):
        gain, first, last = each.differences[PRIMARY], each.against_first, each.grid[-1]
        table.add_row(
            str(number),
            f"{each.values[PRIMARY]:.3f}",
            _signed(gain),
            Text(interval(gain)),
            "-" if last.mean_ms is None else f"{last.mean_ms:,.0f}",
            "" if first is None else _signed(first),
            Text("" if first is None else interval(first)),
        )
    console.print(Padding(table, INDENT))


def _judge(console: Console, judge: Judged) -> None:
    console.print(Text(f"\nJudged by {judge.model}, one passage at a time", "bold"))
    if judge.agreed is not None:
        kappa = "" if judge.kappa is None else f", kappa {judge.kappa:.2f}"
        _say(console, f"of {judge.compared} pairs judged before it agrees on {judge.agreed:.0%}{kappa}")
    if judge.gaps:
        _say(console, f"of {judge.gaps} pairs nobody had judged it calls {judge.gaps_relevant} relevant")
    if judge.unread:
        _say(console, f"{judge.unread} pairs were given no grade")
    for each in judge.disagreements:
        graded = f"given {each.given}, judged {each.judged}"
        _line(console, Text.assemble((f"{graded}  ", ""), (f"{each.document_id} ", "bold"), _one_line(each.question)))


def _questions(console: Console, what: str, changes: Sequence[Change]) -> None:
    for each in changes:
        moved = f"{each.before:.2f} → {each.after:.2f}"
        named = (f"{each.id} ", "bold")
        _line(console, Text.assemble((f"{what:<5} ", "dim"), f"{moved}  ", named, _one_line(each.text)))


def _line(console: Console, line: Text) -> None:
    """Print a line, cut where it would be two."""
    line.truncate(console.width - INDENT[3], overflow="ellipsis")
    console.print(Padding(line, INDENT))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def _signed(change: Difference) -> Text:
    return Text(f"{change.mean:+.3f}", STYLES[outcome(change)] if outcome(change) != "not shown" else "")


def _say(console: Console, text: str) -> None:
    console.print(Padding(Text(text, "dim"), INDENT))
