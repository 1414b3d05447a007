"""Collections of any size: texts cut from the sample corpus, vectors of random directions, nothing embedded."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.documents.samples.corpus import documents
from worker.models.resolve import DEFAULT_EMBEDDING
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection
from worker.settings import RecallSettings

DIMENSION = 384
WRITE = 2_000
WRITE_TIMEOUT_S = 120.0
SEED = 11


@dataclass(frozen=True)
class _Embedding:
    """What a collection records of its model; it embeds nothing."""

    model_name: str = DEFAULT_EMBEDDING
    dimension: int = DIMENSION


EMBEDDING = _Embedding()


def passages(count: int, words: int) -> list[str]:
    """Return texts of so many words each, cut from the corpus, which is repeated as often as it takes."""
    stream = itertools.cycle([word for document in documents() for word in document.text.split()])
    return [" ".join(itertools.islice(stream, words)) for _ in range(count)]


def fill(recall: RecallSettings, name: str, texts: Sequence[str]) -> None:
    """Make a collection of these texts."""
    draw = np.random.default_rng(SEED)
    connection = ChromaConnection(recall.model_copy(update={"timeout_s": WRITE_TIMEOUT_S}))
    try:
        collection = connection.run(
            lambda client: make_collection(client, name, EMBEDDING, top_k=recall.top_k),
            deadline=time.monotonic() + WRITE_TIMEOUT_S,
        )
        for start in range(0, len(texts), WRITE):
            part = list(texts[start : start + WRITE])
            vectors = draw.standard_normal((len(part), DIMENSION)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            collection.add(
                ids=[f"d{start + number}" for number in range(len(part))], embeddings=vectors, documents=part
            )
    finally:
        connection.close()
