"""`rerank-worker ingest`: documents into a collection. Short, since it is a command."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.terminal import out


def ingest(
    paths: Annotated[list[Path] | None, typer.Argument(help="JSONL, CSV, Markdown or text files, or folders.")] = None,
    sample: Annotated[str | None, typer.Option(help="Index a sample instead: demo or wikipedia.")] = None,
    collection: Annotated[str | None, typer.Option(help="Collection to fill; the configured one if not given.")] = None,
    skip_invalid: Annotated[
        bool, typer.Option(help="Count records that are no documents instead of stopping.")
    ] = False,
) -> None:
    """Bring a collection up to date with documents; what is unchanged is skipped, so it can be run again any time."""
    from worker.settings.load import load_settings

    if bool(paths) == bool(sample):
        raise typer.BadParameter("give paths or --sample, one of the two")
    settings = load_settings()
    from worker.documents.files.ingest import ingest_with_progress

    ingest_with_progress(
        settings, out, paths=paths or [], sample=sample, collection=collection, skip_rejected=skip_invalid
    )
