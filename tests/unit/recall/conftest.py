"""A search over the real Chroma of ``recall_settings``."""

from collections.abc import Callable, Iterator

import pytest

from tests.searching import Searching
from worker.domain import Query
from worker.recall.embedder import Embedder
from worker.settings import RecallSettings


@pytest.fixture
def search(recall_settings: RecallSettings, embedder: Embedder) -> Iterator[Searching]:
    search = Searching(recall_settings, embedder)
    yield search
    search.close()


@pytest.fixture
def make_query() -> Callable[..., Query]:
    def make(text: str, **fields: object) -> Query:
        return Query(**({"id": text, "text": text, "collection": "documents", "top_k": 3, "top_n": 2} | fields))

    return make
