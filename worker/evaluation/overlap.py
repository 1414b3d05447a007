"""What two collections find for the same questions: how many of the documents are the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from chromadb.api.models.Collection import Collection
from pydantic import BaseModel, ConfigDict

from worker.documents.stored import DOCUMENT_KEY
from worker.errors import FatalError
from worker.evaluation.recalling import Watch
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import Embedder

SEARCHED_TOGETHER = 10
"""Questions of one request."""

QUESTION_CHARS = 200
"""Of a text that stands for a question: about as long as a long one."""

SHOWN_WORST = 5


class QuestionOverlap(BaseModel):
    """Of one question."""

    model_config = ConfigDict(frozen=True)

    text: str
    share: float


class Overlap(BaseModel):
    """Of all questions: the share of documents that both find among their first ``top_k`` chunks."""

    model_config = ConfigDict(frozen=True)

    top_k: int
    questions: int
    mean: float
    worst: Sequence[QuestionOverlap]
    """The lowest first."""


def overlap(
    connection: ChromaConnection,
    asked: Sequence[tuple[Collection, Embedder]],
    questions: Sequence[str],
    *,
    top_k: int,
    watch: Watch,
) -> Overlap:
    """Ask both collections the questions, each with vectors of its own model. Blocks for as long as that takes.

    Documents are counted and not chunks: the two may be cut differently. What neither finds anything for is agreed on.
    """
    shares: list[QuestionOverlap] = []
    for start in range(0, len(questions), SEARCHED_TOGETHER):
        watch("asking both collections", start, len(questions))
        some = questions[start : start + SEARCHED_TOGETHER]
        both = [_documents(connection, collection, embedder, some, top_k) for collection, embedder in asked]
        shares += [QuestionOverlap(text=text, share=_share(*found)) for text, *found in zip(some, *both, strict=True)]
    mean = sum(each.share for each in shares) / len(shares)
    worst = sorted(shares, key=lambda each: each.share)[:SHOWN_WORST]
    return Overlap(top_k=top_k, questions=len(shares), mean=mean, worst=worst)


def sampled_texts(connection: ChromaConnection, collection: Collection, count: int) -> list[str]:
    """Return beginnings of texts, evenly from the whole collection: the same ones each time, as long as it rests.

    FatalError if there is none.
    """
    chunks = connection.ask(lambda _: collection.count())
    texts = (_text_at(connection, collection, n * chunks // min(count, chunks)) for n in range(min(count, chunks)))
    asked = [text[:QUESTION_CHARS].strip() for text in texts if text and not text.isspace()]
    if not asked:
        raise FatalError(f"{collection.name!r} holds no text that could be asked for")
    return asked


def _text_at(connection: ChromaConnection, collection: Collection, place: int) -> str | None:
    found = connection.ask(lambda _: collection.get(limit=1, offset=place, include=["documents"]))
    return next(iter(found["documents"] or []), None)


def _documents(
    connection: ChromaConnection, collection: Collection, embedder: Embedder, questions: Sequence[str], top_k: int
) -> list[set[str]]:
    vectors = embedder.embed_queries(questions)
    found = connection.ask(
        lambda _: collection.query(query_embeddings=vectors, n_results=top_k, include=["metadatas"]),
    )
    rows = zip(found["ids"], found["metadatas"] or [], strict=True)
    return [{_document_of(*hit) for hit in zip(ids, metadatas, strict=True)} for ids, metadatas in rows]


def _document_of(chunk: str, metadata: Mapping[str, Any] | None) -> str:
    known = metadata or {}
    return str(known.get(DOCUMENT_KEY) or chunk.removesuffix(f"#{known.get('chunk')}"))


def _share(one: set[str], other: set[str]) -> float:
    most = max(len(one), len(other))
    return len(one & other) / most if most else 1.0
