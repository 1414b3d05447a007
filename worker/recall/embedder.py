"""What embeds: the seam, the model by sentence-transformers, and the same model on the thread that loaded it."""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError
from worker.models.hub import hide_loading_bars

if TYPE_CHECKING:
    from tokenizers import Tokenizer

QUERY_CACHE_ENTRIES = 4_096
"""Questions repeat, and a hit costs no forward pass. 4 bytes a dimension and some 200 more: 7 MB at 384 dimensions."""

EMBED_TIMEOUT_S = 60.0
"""For the questions of one batch on a shared thread; without it a recall would wait for ever for one that hangs."""

DOCUMENT_BATCH = 32
"""Documents per forward pass; sentence-transformers sorts them by length first."""


Vectors = NDArray[np.float32]
"""One L2-normalised embedding per row."""


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


class SentenceEmbedder:
    """An ``Embedder`` from a sentence-transformers folder or hub name."""

    def __init__(self, path: str | Path, model_name: str, device: str = "auto") -> None:
        """Load the model onto a torch device; `auto` is CUDA if there is one, else the CPU.

        Blocks for seconds; raises FatalError.
        """
        # Here, not above: who needs the seam alone need not wait seconds for torch.
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        hide_loading_bars()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise FatalError(
                f"RERANK_WORKER_RECALL__DEVICE={device} is not on this machine; set `auto` or `cpu`"
            ) from error
        try:
            self._model = SentenceTransformer(str(path), device=device)
        except (OSError, ValueError) as error:
            raise FatalError(
                f"The embedding model {model_name!r} cannot be loaded from {path}: {error}. "
                "See `rerank-worker models`, or set RERANK_WORKER_RECALL__EMBEDDING_MODEL."
            ) from error
        self._model_name = model_name
        self._cache: LRUCache[bytes, Vectors] = LRUCache(QUERY_CACHE_ENTRIES)
        """By a digest: a question has up to 8,192 characters, more than its vector."""
        self._dimension = int(self.embed_queries(["warm-up"]).shape[1])

    @property
    def model_name(self) -> str:
        """The name collections and answers carry."""
        return self._model_name

    @property
    def dimension(self) -> int:
        """Numbers in one embedding."""
        return self._dimension

    @property
    def max_tokens(self) -> int:
        """Tokens of a text the model reads, its special tokens left out: what is beyond is never recalled."""
        special = int(self._model.tokenizer.num_special_tokens_to_add())
        return int(self._model.max_seq_length or self._model.tokenizer.model_max_length) - special

    def new_tokenizer(self) -> "Tokenizer":
        """Return a copy of the model's tokenizer that neither truncates nor pads: for measuring texts."""
        from tokenizers import Tokenizer  # noqa: PLC0415 - as above

        tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions in one forward pass; those asked lately cost nothing."""
        keys = {text: blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest() for text in texts}
        vectors = {text: self._cache[key] for text, key in keys.items() if key in self._cache}
        unknown = [text for text in dict.fromkeys(texts) if text not in vectors]
        if unknown:
            encoded = self._model.encode_query(
                unknown, batch_size=len(unknown), normalize_embeddings=True, show_progress_bar=False
            )
            # Copies: a row of the batch would keep the whole batch in memory for as long as it is cached.
            rows = (row.copy() for row in np.asarray(encoded, dtype=np.float32))
            vectors.update(zip(unknown, rows, strict=True))
        self._cache.update((keys[text], vector) for text, vector in vectors.items())
        return np.stack([vectors[text] for text in texts])

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages in batches of ``DOCUMENT_BATCH``."""
        encoded = self._model.encode_document(
            list(texts), batch_size=DOCUMENT_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(encoded, dtype=np.float32)


class ExecutorEmbedder:
    """Implements ``Embedder``: another one, on the thread that loaded it. Raises TimeoutError besides what that does.

    The questions of a recall wait for the batch that is being scored instead of sharing the cores with it, for
    ``EMBED_TIMEOUT_S`` at most.
    """

    def __init__(self, embedder: Embedder, thread: SingleThreadExecutor) -> None:
        self._embedder = embedder
        self._thread = thread

    @property
    def model_name(self) -> str:
        """See ``Embedder``."""
        return self._embedder.model_name

    @property
    def dimension(self) -> int:
        """See ``Embedder``."""
        return self._embedder.dimension

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder``."""
        return self._call(partial(self._embedder.embed_queries, texts))

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder``."""
        return self._call(partial(self._embedder.embed_documents, texts))

    def _call(self, embed: Callable[[], Vectors]) -> Vectors:
        future = self._thread.submit(embed)
        try:
            return future.result(EMBED_TIMEOUT_S)
        finally:
            # What was given up must not wait on in the thread's queue: each retry would add to it.
            future.cancel()
