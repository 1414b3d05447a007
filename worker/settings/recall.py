"""Settings of the section `recall`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from worker.settings.fields import Count, Seconds, Section, UserPath


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
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every request: for a proxy that authenticates, since Chroma 1.x has no auth of its own."""
    path: UserPath = Path(".local/chroma")
    """Folder of the embedded store."""
    collection: str = "documents"
    """Collection of queries that name none."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub name or folder. Must be the model the collection was built with: checked at start."""
    device: str = "auto"
    """Where queries are embedded: a torch device such as `cuda:1`; `auto` is what `rerank.device` says."""
    top_k: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Candidates of a query that says nothing: generous, since the reranker can only reorder what it is given."""
    max_batch: Count = 32
    """Most queries embedded and searched together."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the first query of a batch may wait for others while nothing is searched; what one poll brings goes
    together in any case, and so does what comes meanwhile."""
    timeout_s: Seconds = 10.0
    """One call to Chroma, whose own client would wait for ever."""
    attempts: Count = 3
    """Tries of one search, each within `timeout_s`, before it counts as an outage."""
    patience_s: Annotated[float, Field(ge=0)] = 600.0
    """How long a query waits for a store that is away, or for `collection` while it does not exist, before it is
    dead-lettered; partitions pause meanwhile."""
