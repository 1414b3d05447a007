"""A small scatter plot of labelled lines as SVG text: no plotting library for one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 760, 460, 64
LEGEND = 150
COLOURS = ("#0b6efd", "#d63384", "#198754", "#fd7e14", "#6f42c1", "#495057")
TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one series, joined in order, each with what its value was."""

    name: str
    points: Sequence[tuple[float, float, str]]


def plot(lines: Sequence[Line], *, title: str, x: str, y: str) -> str:
    """Return the SVG; both axes start at nought."""
    right = max(point[0] for line in lines for point in line.points) * 1.1
    top = max(point[1] for line in lines for point in line.points) * 1.1

    def place(across: float, up: float) -> tuple[float, float]:
        inner = WIDTH - 2 * MARGIN - LEGEND
        return MARGIN + across / right * inner, HEIGHT - MARGIN - up / top * (HEIGHT - 2 * MARGIN)

    def text(across: float, down: float, words: str, anchor: str = "middle", more: str = "") -> str:
        return f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'

    (left, bottom), (end, start) = place(0, 0), place(right, top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12" font-family="Arial">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(WIDTH / 2, MARGIN / 2, title, more='font-size="15"'),
        text((left + end) / 2, HEIGHT - 16, x),
        text(0, 0, y, more=f'transform="translate(18 {(start + bottom) / 2:.0f}) rotate(-90)"'),
        f'<path d="M{left:.1f} {start:.1f}V{bottom:.1f}H{end:.1f}" fill="none" stroke="#333"/>',
    ]
    for tick in range(TICKS + 1):
        across, up = right * tick / TICKS, top * tick / TICKS
        parts.append(text(place(across, 0)[0], bottom + 16, f"{across:.3g}"))
        parts.append(text(left - 6, place(0, up)[1] + 4, f"{up:.3g}", "end"))
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(point[0], point[1]) for point in line.points]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for (across, down), (_, _, label) in zip(places, line.points, strict=True):
            parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colour}"/>')
            parts.append(text(across + 6, down - 6, label, "start", f'fill="{colour}" font-size="10"'))
        parts.append(text(end + 16, start + 18 * number, line.name, "start", f'fill="{colour}"'))
    return "\n".join([*parts, "</svg>", ""])
