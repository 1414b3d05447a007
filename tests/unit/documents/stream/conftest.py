"""Records of a documents topic, and what a decoder makes of them."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.patience import HANG_S
from worker.documents.chunker import Chunker
from worker.documents.document import Document
from worker.documents.stream.changes import Change
from worker.documents.stream.collections import DocumentCollections
from worker.documents.stream.decode import Decoder, Wanted
from worker.documents.stream.marks import Mark
from worker.documents.stream.store import DocumentStore
from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import Embedder
from worker.recall.lexical.index import LexicalIndex
from worker.settings import IndexSettings

WRITTEN_S = 1_700_000_000.0


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A record of a key and a value: bytes, None, or what JSON makes of anything else."""

    def make(key: bytes | None, value: object, *, offset: int = 41, partition: int = 2) -> Record:
        encoded = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        return Record(Position("docs", partition, offset), key, encoded, (), int(WRITTEN_S * 1000) + offset)

    return make


@pytest.fixture
def decode() -> Callable[..., Wanted | None]:
    """Decodes a record by the settings given."""

    def run(record: Record, **settings: object) -> Wanted | None:
        index = IndexSettings.model_validate(settings)
        return Decoder(index, topic=record.position.topic, collection="documents").decode(record)

    return run


@pytest.fixture
def new_collections(
    connection: ChromaConnection, embedder: Embedder, chunker: Chunker
) -> Callable[..., DocumentCollections]:
    """Opens collections of a real Chroma, or `documents` alone, as each new process does."""

    def new(*names: str, lexical: LexicalIndex | None = None) -> DocumentCollections:
        options = {"source": "kafka:docs", "top_k": 5, "timeout_s": HANG_S, "lexical": lexical}
        new_store = partial(DocumentStore, connection, embedder, chunker, **options)
        return DocumentCollections({name: new_store(collection=name) for name in names or ("documents",)})

    return new


@pytest.fixture
def make_change() -> Callable[..., Change]:
    """A change of a document to a text, or None, as the event at an offset wants it."""

    def make(
        identifier: str,
        text: str | None,
        offset: int,
        *,
        partition: int = 0,
        collection: str = "documents",
        **metadata: object,
    ) -> Change:
        mark = Mark(partition, offset, 1_000 + offset)
        if text is None:
            return Change(identifier, None, None, mark)
        document = Document(identifier, text, "kafka:docs", f"docs@{offset}", metadata)
        return Change(identifier, document, collection, mark)

    return make
