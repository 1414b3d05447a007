"""The whole of an ingestion, from settings to report."""

from collections.abc import Iterable

from worker.documents.chunker import Chunker
from worker.documents.document import Record
from worker.documents.indexer import Indexer
from worker.documents.report import IngestReport, Progress
from worker.models.resolve import resolve
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import SentenceEmbedder
from worker.settings import Settings


def ingest(
    documents: Iterable[Record],
    *,
    settings: Settings,
    collection: str | None = None,
    skip_rejected: bool = False,
    progress: Progress = lambda _: None,
) -> IngestReport:
    """Bring ``collection`` (the default one if None) up to date with ``documents``, as ``Indexer.index`` does.

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
        return indexer.index(documents, chunker, skip_rejected=skip_rejected, progress=progress)
    finally:
        connection.close()
