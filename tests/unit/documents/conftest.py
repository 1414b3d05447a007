"""Chunks measured in words by a real tokenizer, indexed into the real Chroma of ``recall_settings``."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from worker.documents.chunker import Chunker
from worker.documents.document import Document
from worker.documents.indexer import Indexer
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import Embedder
from worker.settings import RecallSettings


@pytest.fixture
def chunker() -> Chunker:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 - a token, not a secret
    tokenizer.pre_tokenizer = Whitespace()
    return Chunker(tokenizer, max_tokens=8)


@pytest.fixture
def connection(recall_settings: RecallSettings) -> Iterator[ChromaConnection]:
    connection = ChromaConnection(recall_settings)
    yield connection
    connection.close()


@pytest.fixture
def new_indexer(connection: ChromaConnection, embedder: Embedder) -> Callable[..., Indexer]:
    return partial(Indexer, connection, embedder, collection="documents", top_k=5)


@pytest.fixture
def make_document() -> Callable[..., Document]:
    def make(name: str, text: str, *, source: str = "corpus.jsonl", **metadata: str) -> Document:
        return Document(id=name, text=text, source=source, origin=f"{source}:{name}", metadata=metadata)

    return make
