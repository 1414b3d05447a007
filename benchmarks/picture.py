"""The picture of ``benchmarks.knobs``: throughput and latency as one setting changes, the others at their defaults.

A column per setting, throughput above latency. The axes begin at nought and a row shares one scale, so that an effect
looks as large as it is. Bars span the rounds' least and most; the filled point is the default.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROWS = (("pairs_per_s", "pairs per second"), ("latency_p50_ms", "median latency, ms"))
COLOURS = ("#0b6efd", "#d6336c")


def knobs_svg(result: Mapping[str, Any], defaults: Mapping[str, float]) -> str:
    """Return the picture of a result as SVG text; ``defaults`` by the name of the setting."""
    style = mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
            "svg.hashsalt": "knobs",  # the same figures give the same bytes
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    with style:
        written = io.StringIO()
        knobs_figure(result, defaults).savefig(written, format="svg", metadata={"Date": None})
    # Matplotlib ends some lines with blanks.
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def knobs_figure(result: Mapping[str, Any], defaults: Mapping[str, float]) -> Figure:
    """Return the figure: a panel per setting and row, a point per value."""
    by_knob: dict[str, list[Mapping[str, Any]]] = {}
    for point in result["points"]:
        by_knob.setdefault(point["knob"], []).append(point)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    widths = [len(points) for points in by_knob.values()]
    panels = figure.subplots(len(ROWS), len(by_knob), sharey="row", squeeze=False, width_ratios=widths)
    for column, (knob, points) in enumerate(by_knob.items()):
        for row, (figure_of, label) in enumerate(ROWS):
            axes = panels[row][column]
            _draw(axes, points, figure_of, defaults.get(knob), COLOURS[row])
            if column == 0:
                axes.set_ylabel(label)
        panels[0][column].set_title(knob, fontsize=10)
    for row in panels:
        # Last, for it ends the search for a scale that holds every panel of the row.
        row[0].set_ylim(bottom=0)
    figure.suptitle(f"{result['what']}, {result['mix']} passages (filled: the default)", fontsize=11)
    return figure


def _draw(axes: Axes, points: Sequence[Mapping[str, Any]], figure_of: str, default: float | None, colour: str) -> None:
    places = range(len(points))
    spreads = [point[figure_of] for point in points]
    medians = [spread["median"] for spread in spreads]
    below = [spread["median"] - spread["min"] for spread in spreads]
    above = [spread["max"] - spread["median"] for spread in spreads]
    axes.errorbar(places, medians, yerr=[below, above], color=colour, capsize=3, linewidth=1, zorder=1)
    fills = [colour if point["value"] == default else "white" for point in points]
    axes.scatter(places, medians, s=30, c=fills, edgecolors=colour, zorder=2)
    axes.set_xticks(places, [f"{point['value']:g}" for point in points])
    axes.margins(x=0.5 / len(points), y=0.08)
    axes.grid(axis="y", alpha=0.25)
