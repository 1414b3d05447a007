"""What every command shares: where it prints, how it prints rows, its usage line, its exit code for an error.

Short: no more.
"""

from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument, TyperCommand

out = Console()
err = Console(stderr=True)

EXIT_ERROR = 1


class Command(TyperCommand):
    """A command whose usage line names what has to be given without typer's braces, and nothing that is hidden."""

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return what stands in the usage line behind the command's name."""
        arguments = [each for each in self.params if isinstance(each, TyperArgument) and not each.hidden]
        pieces = [piece.strip("{}") for each in arguments for piece in each.get_usage_pieces(ctx)]
        return [self.options_metavar or "", *pieces]


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
