"""The sample corpus and its questions: original short passages, and which of them answer what."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from worker.documents.document import Document

SOURCE = "demo"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the documents that answer it, by id, graded 1 to 3; none if the corpus does not know."""

    id: str
    text: str
    relevant: Mapping[str, int]


def documents() -> list[Document]:
    """Return the corpus, ready to be ingested."""
    return [
        Document(
            id=row["id"],
            text=row["text"],
            source=SOURCE,
            origin=f"corpus.jsonl:{number}",
            metadata={"title": row["title"], **row["metadata"]},
        )
        for number, row in enumerate(_rows("corpus.jsonl"), 1)
    ]


def questions() -> list[Question]:
    """Return the questions, the one everybody should see first in front."""
    return [Question(row["id"], row["text"], row["relevant"]) for row in _rows("questions.jsonl")]


def _rows(name: str) -> list[dict[str, Any]]:
    text = (resources.files("worker.documents.samples") / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line]
