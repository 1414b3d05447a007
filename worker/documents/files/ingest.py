"""The whole of an ingestion, from settings to report; `rerank-worker ingest` shows a progress bar meanwhile."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.documents.chunker import Chunker
from worker.documents.document import ParsedRecord
from worker.documents.files.readers import read
from worker.documents.indexer import Indexer, IngestReport, OnProgress
from worker.documents.samples import corpus
from worker.documents.samples.wikipedia import wikipedia
from worker.errors import FatalError
from worker.models.resolve import resolve
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import SentenceEmbedder
from worker.settings import Settings

SAMPLES = ("demo", "wikipedia")


def ingest(
    records: Iterable[ParsedRecord],
    *,
    settings: Settings,
    collection: str | None = None,
    skip_rejected: bool = False,
    progress: OnProgress = lambda _: None,
) -> IngestReport:
    """Bring ``collection`` (the default one if None) up to date with ``records``, as ``Indexer.index`` does.

    Blocking, for minutes with a large corpus; Ctrl-C loses no more than one batch of work. In embedded mode no worker
    may have the folder open: its view of the collection would go stale.
    """
    resolved = resolve("embedding", settings)
    embedder = SentenceEmbedder(resolved.path, resolved.name)
    connection = ChromaConnection(settings.recall)
    try:
        indexer = Indexer(
            connection, embedder, collection=collection or settings.recall.collection, top_k=settings.recall.top_k
        )
        chunker = Chunker(embedder.new_tokenizer(), embedder.max_tokens)
        return indexer.index(records, chunker, skip_rejected=skip_rejected, progress=progress)
    finally:
        connection.close()


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


def _records(paths: Sequence[Path], sample: str | None) -> tuple[int | None, Iterator[ParsedRecord]]:
    """Return the records, and how many there are if that is known beforehand."""
    if sample is None:
        return None, chain.from_iterable(read(path) for path in paths)
    if sample == "wikipedia":
        return None, wikipedia()
    if sample == "demo":
        found = corpus.documents()
        return len(found), iter(found)
    raise FatalError(f"there is no sample {sample!r}: take one of {', '.join(SAMPLES)}")
