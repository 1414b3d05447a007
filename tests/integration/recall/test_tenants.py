"""Tenants and databases of a real Chroma server: a worker sees its own alone, and commands fill the same one."""

import time
from collections.abc import Sequence

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings as ChromaSettings

from tests.patience import HANG_S
from tests.searching import Searching
from worker.domain import Query
from worker.errors import FatalError
from worker.local.chroma import LocalChroma
from worker.recall.chroma_collections import make_collection
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.embedder import Vectors
from worker.settings import RecallSettings

pytestmark = pytest.mark.slow

COLLECTION = "tenants"


class FakeConstantEmbedder:
    """Every text is the same point."""

    model_name = "fake-constant"
    dimension = 2

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return np.array([[1.0, 0.0]] * len(texts), dtype=np.float32)

    embed_documents = embed_queries


@pytest.fixture(scope="module")
def server(chroma_server: LocalChroma) -> LocalChroma:
    """The server with two tenants more, of two databases and of one."""
    admin = chromadb.AdminClient(
        ChromaSettings(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=chroma_server.host,
            chroma_server_http_port=chroma_server.port,
            anonymized_telemetry=False,
        )
    )
    for tenant, databases in {"acme": ["live", "trial"], "other": ["live"]}.items():
        admin.create_tenant(tenant)
        for database in databases:
            admin.create_database(database, tenant)
    return chroma_server


def settings(server: LocalChroma, tenant: str, database: str) -> RecallSettings:
    return RecallSettings(host=server.host, port=server.port, tenant=tenant, database=database)


def test_each_database_of_each_tenant_has_collections_of_its_own(server: LocalChroma) -> None:
    embedder = FakeConstantEmbedder()
    owners = [("acme", "live"), ("acme", "trial"), ("other", "live"), ("default_tenant", "default_database")]
    for owner in owners:
        text = " ".join(owner)
        connection = ChromaConnection(settings(server, *owner))
        connection.run(
            lambda client, text=text: make_collection(client, COLLECTION, embedder, top_k=5).upsert(
                ids=[text], documents=[text], embeddings=embedder.embed_documents([text])
            ),
            deadline=time.monotonic() + HANG_S,
        )
        connection.close()
    query = Query(id="q", text="q", collection=COLLECTION, top_k=5, top_n=1)
    for owner in owners:
        search = Searching(settings(server, *owner), embedder)
        [found] = search.search([query])
        search.close()
        assert [candidate.document_id for candidate in found] == [" ".join(owner)]


@pytest.mark.parametrize(("tenant", "database"), [("acme", "nowhere"), ("nobody", "live")])
def test_a_tenant_or_database_that_is_not_there_is_fatal_and_names_the_settings(
    server: LocalChroma, tenant: str, database: str
) -> None:
    connection = ChromaConnection(settings(server, tenant, database))
    with pytest.raises(FatalError, match="RERANK_WORKER_RECALL__TENANT and RERANK_WORKER_RECALL__DATABASE"):
        connection.run(lambda client: client.list_collections(), deadline=time.monotonic() + HANG_S)
    connection.close()
