"""What every benchmark shares: summaries, tables, and where results go."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the spread, rounded to 4 significant digits."""
    if not values:
        return {"n": 0}
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: significant(value) for name, value in spread.items()} | {"n": len(values)}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` of the values do not exceed (nearest rank). ValueError if none."""
    if not values:
        raise ValueError("no values have no percentile")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def tail(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99."""
    return {f"p{round(share * 100)}": significant(percentile(values, share)) for share in (0.5, 0.95, 0.99)}


def significant(value: float, digits: int = 4) -> float:
    """Return the value with so many significant digits."""
    return float(f"{value:.{digits}g}")


def save(name: str, result: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need."""
    text = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in text) for column in range(len(header))]
    for row in text:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
