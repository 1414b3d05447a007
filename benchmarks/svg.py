"""Small scatter plots of labelled points as SVG text, one per series: no plotting library for one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 420, 260, 56
HEADING = 40
COLUMNS = 2
COLOURS = ("#0b6efd", "#d63384", "#198754", "#fd7e14", "#6f42c1", "#495057")
TICKS = 4
# Of the values' range, on each side of them; at least this share of the largest, or noise would look like an effect.
ROOM, LEAST_RANGE = 0.15, 0.2


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one series, joined in order, each with what its value was."""

    name: str
    points: Sequence[tuple[float, float, str]]


def plot(lines: Sequence[Line], *, title: str, x: str, y: str) -> str:
    """Return the SVG: a panel for each line, with axes of its own that do not start at nought."""
    rows = -(-len(lines) // COLUMNS)
    box = f'viewBox="0 0 {COLUMNS * WIDTH} {HEADING + rows * HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-size="11" font-family="Arial">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(COLUMNS * WIDTH / 2, HEADING / 2, title, more='font-size="15"'),
    ]
    for number, line in enumerate(lines):
        row, column = divmod(number, COLUMNS)
        inside = _panel(line, x=x, y=y, colour=COLOURS[number % len(COLOURS)])
        parts.append(f'<g transform="translate({column * WIDTH} {HEADING + row * HEIGHT})">{inside}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(line: Line, *, x: str, y: str, colour: str) -> str:
    left, right = _range([point[0] for point in line.points])
    bottom, top = _range([point[1] for point in line.points])

    def place(across: float, up: float) -> tuple[float, float]:
        return (
            MARGIN + (across - left) / (right - left) * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - (up - bottom) / (top - bottom) * (HEIGHT - 2 * MARGIN),
        )

    (west, south), (east, north) = place(left, bottom), place(right, top)
    parts = [
        _text((west + east) / 2, north - 12, line.name, more=f'fill="{colour}" font-size="13"'),
        _text((west + east) / 2, HEIGHT - 18, x),
        _text(0, 0, y, more=f'transform="translate(14 {(north + south) / 2:.0f}) rotate(-90)"'),
        f'<path d="M{west:.1f} {north:.1f}V{south:.1f}H{east:.1f}" fill="none" stroke="#333"/>',
    ]
    for tick in range(TICKS + 1):
        across, up = left + (right - left) * tick / TICKS, bottom + (top - bottom) * tick / TICKS
        parts.append(_text(place(across, 0)[0], south + 14, f"{across:,.0f}"))
        parts.append(_text(west - 6, place(0, up)[1] + 4, f"{up:,.0f}", "end"))
    places = [place(point[0], point[1]) for point in line.points]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for (across, down), (_, _, label) in zip(places, line.points, strict=True):
        parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colour}"/>')
        parts.append(_text(across + 6, down - 6, label, "start", f'fill="{colour}"'))
    return "".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return where an axis of these values begins and ends."""
    span = max(max(values) - min(values), LEAST_RANGE * max(values))
    middle = (max(values) + min(values)) / 2
    return middle - span * (0.5 + ROOM), middle + span * (0.5 + ROOM)


def _text(across: float, down: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'
