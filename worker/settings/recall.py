"""Settings of the section `recall`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from worker.settings.fields import Count, Seconds, Section, UserPath

API_KEY_HEADER = "x-chroma-token"
"""What Chroma Cloud reads a key from."""


class RecallSettings(Section):
    """The vector store and the model that embeds queries."""

    mode: Literal["server", "embedded"] = "server"
    """`embedded` opens a folder in this process: one process only, since readers beside a writer go stale."""
    host: str = "localhost"
    """Chroma server's host."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8000
    """Chroma server's port."""
    ssl: bool = False
    """Talk TLS to the Chroma server."""
    ssl_ca_location: UserPath | None = None
    """PEM file of the authority of the Chroma server's certificate; when absent that of `SSL_CERT_FILE`, or Mozilla's
    list."""
    tenant: str = "default_tenant"
    """Tenant of the Chroma server, or of Chroma Cloud, that has `database`; it must exist."""
    database: str = "default_database"
    """Database that has the collections; it must exist."""
    api_key: SecretStr | None = None
    """Key of Chroma Cloud, sent as the header `x-chroma-token`."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every request: for a proxy that authenticates, since Chroma 1.x has no auth of its own."""
    path: UserPath = Path(".local/chroma")
    """Folder of the embedded store."""
    collection: str = "documents"
    """Collection of queries that name none; it may point to another one."""
    follow_s: Seconds = 5.0
    """How often a worker looks where a collection's name points (`rerank-worker collections swap`): so long after a
    swap its searches go to the new collection. One request of about a millisecond, by each connection in use."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub name or folder. Must be the model the collection was built with: checked at start."""
    device: str = "auto"
    """Where queries are embedded: a torch device such as `cuda:1`; `auto` is what `rerank.device` says."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision in which texts are embedded; half of it is for GPUs. Vectors are stored and compared in float32."""
    top_k: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Candidates of a query that says nothing: generous, since the reranker can only reorder what it is given."""
    max_batch: Count = 32
    """Most queries embedded, or searched for, together."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the first query of a batch may wait for others while nothing is embedded; what one poll brings goes
    together in any case, and so does what comes meanwhile."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Calls to Chroma under way at once, each on a connection of its own, and as many again for queries with a filter.
    More helps where the server has cores to spare; 1 sends a batch as one call."""
    lexical_path: UserPath | None = None
    """Folder of the lexical index, on a local disk; set, candidates are found by their words too (hybrid recall).
    `ingest` and `index` keep a file a collection there, of its texts; workers that answer must see the same folder."""
    timeout_s: Seconds = 10.0
    """One call to Chroma, whose own client would wait for ever; less where every query of the call has a nearer
    deadline."""
    attempts: Count = 3
    """Tries of one search, each within `timeout_s`, before it counts as an outage."""
    patience_s: Annotated[float, Field(ge=0)] = 600.0
    """How long a query waits for a store that is away, or for `collection` while it does not exist, before it is
    dead-lettered; partitions pause meanwhile."""
