"""`rerank-worker collections`: what is in the store, whether one can take another's place, and the swap."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from worker.cli.terminal import EXIT_ERROR, Command, err, out, print_rows, watching
from worker.errors import TransientError

if TYPE_CHECKING:
    from worker.evaluation.overlap import Overlap
    from worker.evaluation.readiness import Readiness, Request
    from worker.recall.chroma_connection import ChromaConnection
    from worker.settings import Settings

app = typer.Typer(
    help="Collections: list them, compare two, have the name that queries use lead to another.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What queries name: recall.collection, or an event's own.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The collection to read in its place.")]
Questions = Annotated[
    Path | None,
    typer.Option(help="Ask these, a file as for `evaluate --queries`; texts of the present collection if not given."),
]
Sample = Annotated[int, typer.Option(min=0, metavar="COUNT", help="Most questions asked; 0 asks none.")]
MaxLag = Annotated[int, typer.Option(min=0, metavar="EVENTS", help="How far behind the topic NEW's index may be.")]
MinOverlap = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, metavar="SHARE", help="Of the documents found; 0.8 with the same embedding model if not given."
    ),
]
SAMPLE = 50


@app.command(name="list")
def list_collections() -> None:
    """List the collections, what they hold and where their names point."""
    with _store() as (_, connection):
        from worker.recall.chroma_swap import all_collections, model_of
        from worker.recall.pointer import Pointer

        found = connection.ask(
            lambda client: [
                (each.name, str(each.count()), model_of(each)[0] or "-", Pointer.of(each).target or "-")
                for each in all_collections(client)
            ],
        )
    print_rows(("collection", "chunks", "embedding model", "points to"), sorted(found))


@app.command(cls=Command)
def compare(
    name: Name,
    new: New,
    questions: Questions = None,
    sample: Sample = SAMPLE,
    max_lag: MaxLag = 0,
    min_overlap: MinOverlap = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say whether NEW can take the place of what NAME reads: what is in both, how far its index is, what both find.

    Exit code 0: ready; 1: not.
    """
    with _store() as (settings, connection):
        from worker.evaluation.readiness import Request

        report = _report(settings, connection, Request(name, new, questions, sample, max_lag, min_overlap))
    if as_json:
        print(report.model_dump_json(indent=2), flush=True)  # noqa: T201 - for other programs, never wrapped
    else:
        _print(report)
    if not report.ready:
        raise typer.Exit(EXIT_ERROR)


@app.command(cls=Command)
def swap(
    name: Name,
    new: New,
    questions: Questions = None,
    sample: Sample = SAMPLE,
    max_lag: MaxLag = 0,
    min_overlap: MinOverlap = None,
    force: Annotated[bool, typer.Option("--force", help="Swap whatever the report says.")] = False,
) -> None:
    """Have NAME lead to NEW, if `compare` finds it ready; running workers follow within recall.follow_s.

    The way back: swap NAME with what it read before, or with itself.
    """
    with _store() as (settings, connection):
        from worker.evaluation.readiness import Request
        from worker.recall.chroma_swap import plan_swap
        from worker.recall.chroma_swap import swap as swapped

        # What can't be is told before anything is counted.
        connection.ask(lambda client: plan_swap(client, name, new))
        report = _report(settings, connection, Request(name, new, questions, sample, max_lag, min_overlap))
        _print(report)
        if not report.ready and not force:
            err.print("nothing was changed; --force swaps all the same", highlight=False)
            raise typer.Exit(EXIT_ERROR)
        try:
            # Planned anew: the report took its time.
            connection.ask(lambda client: swapped(client, plan_swap(client, name, new)))
        except TransientError as error:
            raise TransientError(f"{error} Whether it was swapped, `rerank-worker collections list` tells.") from error
    follow = f"{settings.recall.follow_s:g} s (recall.follow_s)"
    _say(f"{name} reads {new}; every worker follows within {follow}")
    if report.current is not None and report.current.embedding_model != report.new.embedding_model:
        _say(f"workers of another embedding model than {report.new.embedding_model} read what they did until restarted")


@contextmanager
def _store() -> "Iterator[tuple[Settings, ChromaConnection]]":
    from worker.settings.load import load_settings

    settings = load_settings()
    # After the settings, so that a wrong one is told at once and not when Chroma is imported.
    from worker.recall.chroma_connection import ChromaConnection

    connection = ChromaConnection(settings.recall)
    try:
        yield settings, connection
    finally:
        connection.close()


def _report(settings: "Settings", connection: "ChromaConnection", request: "Request") -> "Readiness":
    from worker.evaluation.readiness import readiness

    with watching() as watch:
        return readiness(settings, connection, request, watch)


def _print(report: "Readiness") -> None:
    sides = [(what, side) for what, side in (("now", report.current), ("new", report.new)) if side is not None]
    print_rows(
        ("", "collection", "documents", "chunks", "embedding model"),
        [
            (
                what,
                side.name,
                "-" if side.documents is None else str(side.documents),
                str(side.chunks),
                side.embedding_model or "-",
            )
            for what, side in sides
        ],
    )
    behind = report.behind
    if behind.unknown is None:
        far = "has never indexed" if behind.events is None else f"is {behind.events:,} events behind the topic"
        _say(f"index: the group {behind.group} {far}")
    if report.overlap is None:
        _say(f"overlap: not known: {report.no_overlap}")
    else:
        _print_overlap(report.overlap)
    for reason in report.reasons:
        out.print(Text.assemble(("not ready: ", "bold red"), reason), soft_wrap=True)
    if report.ready:
        out.print(Text("ready", "bold green"))


def _print_overlap(found: "Overlap") -> None:
    _say(f"overlap: {found.mean:.1%} of the documents found at {found.top_k}, over {found.questions} questions")
    for each in found.worst:
        if each.share < 1:
            _say(f"  {each.share:4.0%}  {' '.join(each.text.split())}")


def _say(text: str) -> None:
    out.print(Text(text), soft_wrap=True)
