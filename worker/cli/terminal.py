"""What every command shares: where it prints, how it prints rows, its usage line, its exit code for an error."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument, TyperCommand

# Escape and its like, line ends and tabs excepted: questions, documents and headers are other people's, and shall not
# steer the terminal of whoever looks at them.
CONTROL_CHARACTERS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")})


class Harmless(RenderHook):
    """Leaves control characters out of what a console prints; rich's own come after it."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return the renderables, each without control characters."""
        return [WithoutControl(each) for each in renderables]


class WithoutControl:
    """Anything to be printed, without its control characters; what is shown live passes no hook and needs it itself."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self._content, options):
            yield Segment(text if control else text.translate(CONTROL_CHARACTERS), style, control)


out = Console()
err = Console(stderr=True)
out.push_render_hook(Harmless())
err.push_render_hook(Harmless())

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


@contextmanager
def watching() -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal what goes on, and how far it is (done, of how many, nought if unknown); elsewhere nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def watch(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield watch
