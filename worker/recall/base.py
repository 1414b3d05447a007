"""The recall stage's seams: the stage itself, and the model it embeds with."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.domain import Candidate, Query

Vectors = NDArray[np.float32]
"""One L2-normalised embedding per row."""


class Recall(Protocol):
    """Finds a query's candidates in the vector store."""

    async def recall(self, query: Query) -> Sequence[Candidate]:
        """Return at most ``query.top_k`` candidates, nearest first; empty if the collection has none.

        Raises PoisonError (``unknown_collection``; ``invalid_filter``; ``incompatible_collection``: the query names
        one built with another model), TransientError (the store cannot be reached or timed out) or FatalError
        (the worker's own default collection was built with another model, or the store refuses the credentials).
        Cancelling the call takes the query out of a batch that has not started.
        """
        ...


class Embedder(Protocol):
    """An embedding model on one device. Blocking, and not thread-safe: call it from one thread at a time."""

    @property
    def model_name(self) -> str:
        """The name collections and answers carry."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in one embedding."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions in one forward pass, one row each, in order."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages, one row each, in order; some models prepare them differently from questions."""
        ...
