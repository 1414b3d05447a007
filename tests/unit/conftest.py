"""A real Chroma in a folder, an embedder that is honest about not being one, and an HTTP endpoint with moods."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import chromadb
import numpy as np
import pytest
from chromadb.api import ClientAPI
from chromadb.config import Settings as ChromaSettings

from tests.fakes.endpoint import FakeEndpoint, fake_endpoint
from worker.recall.embedder import Vectors
from worker.settings import RecallSettings


class FakeHashEmbedder:
    """Equal texts get equal unit vectors, different ones unrelated ones."""

    def __init__(self, model_name: str = "fake-hash", dimension: int = 16) -> None:
        self.model_name = model_name
        self.dimension = dimension
        self.batches: list[list[str]] = []

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        rows = [self._vector(text) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)

    embed_documents = embed_queries

    def _vector(self, text: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        return np.random.default_rng(seed).normal(size=self.dimension).astype(np.float32)


@pytest.fixture
def embedder() -> FakeHashEmbedder:
    return FakeHashEmbedder()


@pytest.fixture
def recall_settings(tmp_path: Path) -> RecallSettings:
    return RecallSettings(mode="embedded", path=tmp_path / "chroma", collection="documents", top_k=5, patience_s=0)


@pytest.fixture
def chroma_client(recall_settings: RecallSettings) -> Iterator[ClientAPI]:
    client = chromadb.PersistentClient(path=recall_settings.path, settings=ChromaSettings(anonymized_telemetry=False))
    yield client
    client.close()


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint() as running:
        yield running
