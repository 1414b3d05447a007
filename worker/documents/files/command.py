"""`rerank-worker ingest`: what to read, and a progress bar while it is indexed."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.documents.document import Record
from worker.documents.files.readers import read
from worker.documents.files.run import ingest
from worker.documents.report import IngestReport
from worker.documents.samples.wikipedia import wikipedia
from worker.errors import FatalError
from worker.settings import Settings

SAMPLES = ("demo", "wikipedia")


def ingest_with_progress(
    settings: Settings,
    console: Console,
    *,
    paths: Sequence[Path],
    sample: str | None,
    collection: str | None,
    skip_rejected: bool,
) -> IngestReport:
    """Index the paths, or a sample, and print what was done. Blocking; FatalError says which input is wrong."""
    total, records = _records(paths, sample)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("indexing", total=total)
        report = ingest(
            records,
            settings=settings,
            collection=collection,
            skip_rejected=skip_rejected,
            progress=lambda running: bar.update(task, completed=running.documents),
        )
    counts = {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.skipped,
        "deleted": report.deleted,
        "empty": report.empty,
        "rejected": report.rejected,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    console.print(f"  {report.documents} documents in {report.seconds:.1f} s; chunks: {told}", highlight=False)
    return report


def _records(paths: Sequence[Path], sample: str | None) -> tuple[int | None, Iterator[Record]]:
    """Return the records, and how many there are if that is known beforehand."""
    if sample is None:
        return None, chain.from_iterable(read(path) for path in paths)
    if sample == "wikipedia":
        return None, wikipedia()
    if sample == "demo":
        from worker.documents.samples.corpus import documents  # noqa: PLC0415 - the demo's corpus knows the ingest's documents

        found = documents()
        return len(found), iter(found)
    raise FatalError(f"there is no sample {sample!r}: take one of {', '.join(SAMPLES)}")
