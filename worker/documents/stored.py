"""A chunk as it stands in a collection, whoever put it there. Short: `ingest` and `index` must agree on it."""

from collections.abc import Mapping
from typing import Any

from worker.documents.chunker import Chunk
from worker.recall.chroma_collections import PRIVATE_PREFIX

HASH_KEY = f"{PRIVATE_PREFIX}hash"
SOURCE_KEY = f"{PRIVATE_PREFIX}source"
DOCUMENT_KEY = f"{PRIVATE_PREFIX}document"
"""Of each chunk that `index` writes: its document's id, which finds those that a shorter version no longer has."""


def stored_metadata(chunk: Chunk, source: str, before: Mapping[str, Any], **own: str | int) -> dict[str, Any]:
    """Return what to upsert beside a chunk, where ``before`` stood; ``own`` is what else the index notes."""
    # Chroma's upsert merges metadata: what is not said to be None stays.
    cleared = dict.fromkeys(before, None)
    return {**cleared, **chunk.metadata, HASH_KEY: chunk.content_hash, SOURCE_KEY: source, **own}
