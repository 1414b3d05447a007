"""`rerank-worker ingest`: documents into a collection."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.terminal import out


class Sample(StrEnum):
    """What comes along to try it with."""

    DEMO = "demo"
    WIKIPEDIA = "wikipedia"


def ingest(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS",
            help="JSONL, CSV, Markdown or text files, or folders of such. As you write them they name their documents: "
            "give the same paths each time.",
        ),
    ] = None,
    sample: Annotated[Sample | None, typer.Option(help="Index a sample instead.")] = None,
    collection: Annotated[
        str | None, typer.Option(metavar="NAME", help="Collection to fill; the configured one if not given.")
    ] = None,
    skip_invalid: Annotated[bool, typer.Option(help="Count records that are no documents, and exit with 0.")] = False,
    adopt: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="A source, as it was given to an earlier run, that these paths replace."),
    ] = None,
) -> None:
    """Bring a collection up to date with documents; what is unchanged is skipped, so it can be run again any time."""
    if bool(paths) == bool(sample):
        raise typer.BadParameter("give paths or --sample, one of the two")
    # What is wrong with the paths is told at once, and not when the models are loaded.
    from worker.documents.files.readers import find
    from worker.settings.load import load_settings

    found = find(paths) if paths else None
    settings = load_settings()
    from worker.documents.files.ingest import ingest_with_progress

    ingest_with_progress(
        settings,
        out,
        found=found,
        sample=sample and sample.value,
        collection=collection,
        skip_rejected=skip_invalid,
        adopted=adopt or (),
    )
