"""Files that are generated from code: how each generator writes them, checks that they are fresh, and lays out tables.

Here and not in the worker, since the contract's own generators need it and may import nothing of the worker.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Files = Mapping[Path, str]
"""What each file should hold. A path that is not absolute is one below the working directory."""

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}


def stale(files: Files) -> list[Path]:
    """Return the files that are missing or hold something else."""
    return [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def write(files: Files) -> None:
    """Write every file, and the folders they are in."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_or_check(module: str, files: Files, arguments: Sequence[str] | None = None) -> int:
    """Be ``python -m MODULE``: write the files or, with ``--check``, compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    if parser.parse_args(arguments).check:
        return report(module, [str(path) for path in stale(files)])
    write(files)
    return 0


def report(module: str, wrong: Sequence[str]) -> int:
    """Name on standard error what is out of date, and the command that writes it; return the exit code."""
    if wrong:
        sys.stderr.write(f"out of date: {', '.join(wrong)}; run: python -m {module}\n")
    return 1 if wrong else 0


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. A cell is one line, and a bar in it would begin another cell, even in code."""
    cells = ([cell.replace("\n", " ").replace("|", r"\|") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *cells))


def bounds(schema: Mapping[str, Any]) -> str:
    """Return the limits of a number in a JSON Schema, e.g. ``≥ 1, ≤ 65,535``; empty if it has none."""
    return ", ".join(f"{sign} {schema[key]:,}" for key, sign in _BOUNDS.items() if key in schema)
