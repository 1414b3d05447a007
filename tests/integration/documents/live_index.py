"""Short: what a collection holds, document by document, for tests of what brings documents in."""

import chromadb
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings

from worker.settings import RecallSettings


def live_collection(recall: RecallSettings) -> Collection:
    client = chromadb.HttpClient(recall.host, recall.port, settings=ChromaSettings(anonymized_telemetry=False))
    return client.get_collection(recall.collection, embedding_function=None)


def indexed(recall: RecallSettings) -> dict[str, str]:
    """The text of each document, put together of its chunks."""
    found = live_collection(recall).get(include=["documents"])
    chunks = dict(zip(found["ids"], found["documents"], strict=True))
    texts = {}
    for identifier in [chunk for chunk in chunks if "#" not in chunk]:
        parts = [chunks.pop(identifier)]
        while (following := f"{identifier}#{len(parts) + 1}") in chunks:
            parts.append(chunks.pop(following))
        texts[identifier] = " ".join(" ".join(parts).split())
    assert chunks == {}, "chunks without a first one, or behind a gap"
    return texts
