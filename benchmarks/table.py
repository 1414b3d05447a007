"""The README's performance table, written from ``results/*.json``: ``python -m benchmarks.table``.

A results file has a section here; one that is absent has none in the README. A test keeps both equal.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"

Section = Callable[[dict[str, Any]], str]


def scoring(result: dict[str, Any]) -> str:
    """Return pairs per second of every contender, one column a mix."""
    mixes, machine = result["mixes"], result["machine"]
    header = ["20 candidates a query, many queries at once", *(_described(name, mix) for name, mix in mixes.items())]
    names = list(next(iter(mixes.values()))["contenders"])
    rows = [[name, *(_cell(mix["contenders"][name]) for mix in mixes.values())] for name in names]
    limits = [
        f"{precision} {max(way['median'] for way in ways.values()):,.0f}"
        for precision, ways in result["gemm_gflops_per_s"].items()
    ]
    where = f"{machine['threads']} threads of {machine['cpu']}" if machine["device"] == "cpu" else machine["device"]
    return (
        f"{_table(header, rows)}\n\n"
        f"Pairs per second; in brackets, times the plain loop (`{result['reference']}`) in the same round; then the "
        f"share of the machine's own matrix products in that precision, in the same run ({', '.join(limits)} GFLOP/s). "
        f"Medians of {result['rounds']} rounds on {where}; model `{result['model']}`, {result['corpus']}."
    )


# File in results: its section, in the README's order.
SECTIONS: dict[str, Section] = {
    "scoring.json": scoring,
    "scoring-cuda.json": scoring,
}


def rendered(results: Path = RESULTS) -> str:
    """Return what stands between the markers."""
    parts = [
        section(json.loads((results / name).read_text(encoding="utf-8")))
        for name, section in SECTIONS.items()
        if (results / name).is_file()
    ]
    return "\n\n".join(parts)


def replaced(readme: str, body: str) -> str:
    """Return the README with the text between the markers changed. ValueError if it has no markers."""
    if BEGIN not in readme or END not in readme:
        raise ValueError(f"README.md lacks {BEGIN} or {END}")
    return re.sub(
        f"{re.escape(BEGIN)}.*{re.escape(END)}",
        lambda _: "\n".join(filter(None, (BEGIN, body, END))),
        readme,
        flags=re.DOTALL,
    )


def _described(name: str, mix: dict[str, Any]) -> str:
    return f"{name} (mean {mix['tokens_mean']:.0f} tokens, p95 {mix['tokens_p95']})"


def _cell(row: dict[str, Any]) -> str:
    share = "" if row["share_of_limit"] is None else f", {row['share_of_limit']['median']:.0%}"
    return f"{row['pairs_per_s']['median']:,.0f} ({row['ratio']['median']:.2f}){share}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    README.write_text(replaced(README.read_text(encoding="utf-8"), rendered()), encoding="utf-8")
    print(f"wrote the table of {README.name}")


if __name__ == "__main__":
    main()
