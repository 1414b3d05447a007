"""What every command shares: where it prints, how it prints rows, and its exit code for an error. Short: no more."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console()
err = Console(stderr=True)

EXIT_ERROR = 1


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on a terminal, and elsewhere, where no width is known, whole lines with tabs between the cells."""
    if not out.is_terminal:
        for row in (columns, *rows):
            print("\t".join(" ".join(cell.split()) for cell in row))  # noqa: T201 - lines for other programs
        return
    table = Table(*columns)
    for row in rows:
        # Not as markup: cells may hold brackets.
        table.add_row(*map(Text, row))
    out.print(table)
