"""What writes to a collection keeps its lexical file by the same chunks; a file that is missing is filled from Chroma.

The order is what heals: chunks are put when Chroma has them, and taken out before Chroma is told to. Ended in between,
the same event or the next `ingest` does both again, and finds what to do in Chroma.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from chromadb.api.models.Collection import Collection

from worker.recall.lexical.database import require_fts5
from worker.recall.lexical.file import LexicalFile
from worker.settings import RecallSettings

PAGE = 1_000
"""Chunks asked of Chroma at once: some hundred kilobytes of text."""

Ask = Callable[[Callable[[Collection], Any]], Any]
"""Return what an operation makes of the collection."""

logger = structlog.get_logger()


class LexicalIndex:
    """The files of collections in one folder. Blocking; call it from one thread at a time."""

    def __init__(self, folder: Path, before_write: Callable[[], None] = lambda: None) -> None:
        """``before_write`` is called when something is about to be written, and may raise.

        Raises FatalError if SQLite has no full-text search.
        """
        require_fts5()
        self._folder = folder
        self._before_write = before_write
        self._files: dict[UUID, LexicalFile] = {}

    def fill(self, collection: Collection, ask: Ask, *, anew: bool = False) -> int | None:
        """Fill the collection's file from Chroma unless it is filled: see ``LexicalFile.fill``.

        Blocks for as long as reading all chunks takes. Raises as that, and whatever ``ask`` raises.
        """
        chunks = self._file(collection).fill(partial(_pages, ask), anew=anew)
        if chunks is not None:
            logger.info("lexical file filled", collection=collection.name, chunks=chunks)
        return chunks

    def put(self, collection: Collection, chunks: Mapping[str, str]) -> None:
        """Have these texts by chunk id; Chroma has them. Raises as ``LexicalFile.put``."""
        self._before_write()
        self._file(collection).put(chunks)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """Have none of these; Chroma has them still. Raises as ``LexicalFile.put``."""
        self._before_write()
        self._file(collection).delete(ids)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _file(self, collection: Collection) -> LexicalFile:
        return self._files.setdefault(collection.id, LexicalFile(path_of(self._folder, collection), writes=True))


def path_of(folder: Path, collection: Collection) -> Path:
    """Return where a collection's file is: by its id, which no other has, made anew or in another database neither."""
    return folder.expanduser() / f"{collection.id}.sqlite3"


def new_lexical_index(settings: RecallSettings, before_write: Callable[[], None] = lambda: None) -> LexicalIndex | None:
    """Return what writers keep, if they are to keep any; see ``LexicalIndex``."""
    return None if settings.lexical_path is None else LexicalIndex(settings.lexical_path, before_write)


def _pages(ask: Ask) -> Iterator[Mapping[str, str]]:
    # The ids first: page by page, a delete meanwhile would shift what comes behind it, and some would be missed.
    ids = ask(partial(Collection.get, include=[]))["ids"]
    for start in range(0, len(ids), PAGE):
        page = ask(partial(Collection.get, ids=ids[start : start + PAGE], include=["documents"]))
        yield {chunk: text for chunk, text in zip(page["ids"], page["documents"], strict=True) if text}
