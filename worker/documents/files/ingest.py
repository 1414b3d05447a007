"""The whole of an ingestion, from settings to report; `rerank-worker ingest` shows a progress bar meanwhile."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.documents.chunker import Chunker
from worker.documents.document import ParsedRecord
from worker.documents.files.readers import Found
from worker.documents.indexer import Indexer, IngestReport, OnProgress
from worker.documents.samples import corpus
from worker.documents.samples.wikipedia import wikipedia
from worker.models.resolve import resolve
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import load_embedder
from worker.recall.lexical.index import new_lexical_index
from worker.settings import Settings

Say = Callable[[str], None]


def ingest(
    records: Iterable[ParsedRecord],
    *,
    settings: Settings,
    collection: str | None = None,
    skip_rejected: bool = False,
    adopted: Sequence[str] = (),
    progress: OnProgress = lambda _: None,
    say: Say = lambda _: None,
) -> IngestReport:
    """Bring ``collection`` (the default one if None) up to date with ``records``, as ``Indexer.index`` does.

    Blocking, for minutes with a large corpus; Ctrl-C loses no more than one batch of work. ``say`` is told what goes
    on. In embedded mode no worker may have the folder open: its view of the collection would go stale.
    """
    say("loading the embedding model")
    embedder = load_embedder(resolve("embedding", settings), settings)
    say("reaching the vector store")
    connection, lexical = ChromaConnection(settings.recall), new_lexical_index(settings.recall)
    name, top_k = collection or settings.recall.collection, settings.recall.top_k
    try:
        indexer = Indexer(connection, embedder, collection=name, top_k=top_k, adopted=adopted, lexical=lexical)
        chunker = Chunker(embedder.new_tokenizer(), embedder.max_tokens)
        say("indexing")
        return indexer.index(records, chunker, skip_rejected=skip_rejected, progress=progress)
    finally:
        connection.close()
        if lexical is not None:
            lexical.close()


def ingest_with_progress(
    settings: Settings,
    console: Console,
    *,
    found: Found | None,
    sample: str | None,
    collection: str | None,
    skip_rejected: bool,
    adopted: Sequence[str] = (),
) -> IngestReport:
    """Index the files found, or a sample, and print what was done. Blocking; FatalError says which input is wrong."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, {task.fields[chunks]} chunks"),
        TimeElapsedColumn(),
    )
    if found is not None and found.skipped:
        kinds = ", ".join(f"{count} {ending}" for ending, count in found.skipped.most_common())
        console.print(f"  {found.skipped.total()} files skipped: {kinds}", highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, unit="documents" if found is None else "files", chunks=0)

        def say(what: str) -> None:
            bar.update(task, description=what)
            if not console.is_terminal:
                console.print(f"  {what} …", highlight=False)

        def progress(running: IngestReport) -> None:
            bar.update(task, chunks=running.added + running.updated + running.skipped)

        try:
            report = ingest(
                _counted(found, sample, lambda done, total: bar.update(task, completed=done, total=total)),
                settings=settings,
                collection=collection,
                skip_rejected=skip_rejected,
                adopted=adopted,
                progress=progress,
                say=say,
            )
        except KeyboardInterrupt:
            console.print("  interrupted: what is indexed stays, and the next run does the rest", highlight=False)
            raise
    chunks = {"added": report.added, "updated": report.updated, "unchanged": report.skipped, "deleted": report.deleted}
    left_out = _told({"empty": report.empty, "rejected": report.rejected})
    console.print(
        f"  {report.documents} documents in {report.seconds:.1f} s{left_out and f' ({left_out})'}; "
        f"chunks: {_told(chunks) or 'none'}",
        highlight=False,
    )
    return report


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _counted(
    found: Found | None, sample: str | None, on_read: Callable[[int, int | None], object]
) -> Iterator[ParsedRecord]:
    """Yield the records; tell how many files, or documents of a sample, are read, and of how many if that is known."""
    if found is not None:
        on_read(0, len(found.files))
        for number, file in enumerate(found.files, 1):
            yield from file.read()
            on_read(number, len(found.files))
        return
    documents = corpus.documents() if sample == "demo" else wikipedia()
    total = len(documents) if isinstance(documents, Sized) else None
    for number, document in enumerate(documents, 1):
        yield document
        on_read(number, total)
