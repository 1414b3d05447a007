"""The pictures of a report, each an SVG text to be put into a page.

Letters are drawn as paths, so that a page looks the same whatever fonts its reader has.
"""

import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from worker.evaluation.measures import PRIMARY
from worker.evaluation.report import Report, Reranked

COLOURS = ("#0b6efd", "#2b8a3e", "#7048e8", "#0c8599", "#845100", "#495057")
"""One for each reranker, round again after the last; none is near the red of losses."""
RECALL, LOSS = "#868e96", "#e03131"
WIDE, NARROW = (9.4, 2.9), (4.6, 3.2)
"""Inches: the width of the page, and half of it."""


def differences(report: Report) -> str:
    """Draw each measure's difference to recall order with its interval, a colour for each reranker."""

    def draw(axes: Axes) -> None:
        rows = list(reversed(report.measures))
        height = 0.7 / len(report.reranked)
        for number, each in enumerate(report.reranked):
            places = [place - (number - (len(report.reranked) - 1) / 2) * height for place in range(len(rows))]
            changes = [each.differences[name] for name in rows]
            means = [change.mean for change in changes]
            errors = [[c.mean - c.low for c in changes], [c.high - c.mean for c in changes]]
            axes.errorbar(means, places, xerr=errors, fmt="o", color=colour(number), capsize=3, label=each.name)
        axes.axvline(0, color=RECALL, linewidth=1)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("difference to recall order, with its 95 % interval: right of the line is better")
        axes.margins(y=0.08)
        if len(report.reranked) > 1:
            axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")

    lines = len(report.measures) * max(1.0, 0.6 * len(report.reranked)) + len(report.reranked)
    return _svg("differences", draw, (WIDE[0], 1.0 + 0.28 * lines))


def costs(report: Report) -> str:
    """Draw nDCG@10 over the milliseconds a query takes, a point for each number of candidates."""

    def draw(axes: Axes) -> None:
        for number, each in enumerate(report.reranked):
            rows = [row for row in each.grid if row.mean_ms is not None]
            times, values = [row.mean_ms or 0.0 for row in rows], [row.value for row in rows]
            axes.plot(times, values, "o-", color=colour(number), label=each.name)
            for row, time, value in zip(rows, times, values, strict=True):
                axes.annotate(str(row.top_k), (time, value), xytext=(0, 6), textcoords="offset points", ha="center")
        axes.axhline(report.recall.values[PRIMARY], color=RECALL, linestyle="--", linewidth=1)
        axes.set_xlabel("ms a query")
        axes.set_ylabel(PRIMARY)
        axes.set_xlim(left=0)
        axes.margins(y=0.2)

    return _svg("costs", draw, NARROW)


def contexts(each: Reranked, number: int) -> str:
    """Draw the share of questions with a relevant document among so many contexts, recalled and reranked."""

    def draw(axes: Axes) -> None:
        kept = each.grid[-1].kept
        top_ns = [row.top_n for row in kept]
        axes.plot(top_ns, [row.success_recalled for row in kept], "o--", color=RECALL, label="recall order")
        axes.plot(top_ns, [row.success for row in kept], "o-", color=colour(number), label="reranked")
        axes.set_xticks(top_ns)
        axes.set_xlabel("contexts kept (top_n)")
        axes.set_ylabel("questions with a relevant one")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.legend(loc="lower right")

    return _svg(f"contexts-{number}", draw, NARROW)


def refusals(report: Report, each: Reranked, number: int) -> str:
    """Draw what each `min_score` refuses of the questions with an answer and of those without."""

    def draw(axes: Axes) -> None:
        scores = [point.min_score for point in each.curve]
        refused = [point.answerable_refused for point in each.curve]
        axes.step(scores, refused, where="pre", color=LOSS, label="with an answer: lost")
        if report.unanswerable:
            others = [point.unanswerable_refused or 0.0 for point in each.curve]
            axes.step(scores, others, where="pre", color=colour(number), label="without an answer: rightly")
        if (score := each.verdict.advice.min_score) is not None:
            axes.axvline(score, color=RECALL, linestyle=":", label=f"suggested: {score:g}")
        axes.set_xlabel("min_score")
        axes.set_ylabel("questions refused")
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)

    return _svg(f"refusals-{number}", draw, NARROW)


def changes(each: Reranked, number: int) -> str:
    """Draw what reranking did to every question, the largest loss on the left."""

    def draw(axes: Axes) -> None:
        moved = [change.after - change.before for change in each.changes]
        colours = [LOSS if change < 0 else colour(number) for change in moved]
        axes.bar(range(len(moved)), moved, width=1.0, color=colours)
        axes.axhline(0, color=RECALL, linewidth=1)
        axes.set_xlabel("questions, by what reranking did to them")
        axes.set_ylabel(f"change of {PRIMARY}")
        axes.set_xticks([])
        axes.margins(x=0.01)

    return _svg(f"changes-{number}", draw, NARROW)


def colour(number: int) -> str:
    """Return the colour of the reranker with that number, from 0."""
    return COLOURS[number % len(COLOURS)]


def _svg(name: str, draw: Callable[[Axes], None], size: Sequence[float]) -> str:
    style = mpl.rc_context(
        {
            "svg.fonttype": "path",
            "svg.hashsalt": name,  # the same figures give the same bytes, and ids that are no other picture's
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )
    with style:
        figure = Figure(figsize=(size[0], size[1]), layout="constrained")
        draw(figure.subplots())
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    # Without the head of a file of its own: it stands in a page.
    return written.getvalue()[written.getvalue().index("<svg") :]
