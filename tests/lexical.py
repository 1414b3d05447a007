"""A writer that dies at some moment, and whether the lexical file is in the end what the collection is."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromadb.api.models.Collection import Collection

from worker.recall.lexical.file import LexicalFile
from worker.recall.lexical.index import LexicalIndex, path_of
from worker.recall.lexical.words import only_words


class CrashError(Exception):
    """The process has died here."""


def crash_at_random(monkeypatch: pytest.MonkeyPatch, seed: int, share: float = 0.2) -> random.Random:
    """Have a share of the writes, to Chroma and to the file, be the last thing of their process: before or after."""
    draw = random.Random(seed)

    def dying(write: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            moment = draw.random()
            if moment < share / 2:
                raise CrashError
            done = write(*arguments, **options)
            if moment < share:
                raise CrashError
            return done

        return run

    for kind, name in ((Collection, "upsert"), (Collection, "delete"), (LexicalIndex, "put"), (LexicalIndex, "delete")):
        monkeypatch.setattr(kind, name, dying(getattr(kind, name)))
    return draw


def texts_of_both(folder: Path, collection: Collection) -> tuple[dict[str, str], dict[str, str]]:
    """Return the words by chunk of the file, and those of the collection."""
    held = collection.get(include=["documents"])
    file = LexicalFile(path_of(folder, collection))
    with file._database.reading() as connection:
        words = dict(connection.execute("SELECT id, text FROM chunks"))
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    file.close()
    return words, {chunk: only_words(text) for chunk, text in zip(held["ids"], held["documents"], strict=True)}
