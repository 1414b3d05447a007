"""What embeds: the seam, and the model by sentence-transformers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from worker.errors import FatalError
from worker.models.hub import hide_loading_bars
from worker.models.resolve import ResolvedModel
from worker.models.threads import cpu_threads
from worker.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

QUERY_CACHE_ENTRIES = 4_096
"""Questions repeat, and a hit costs no forward pass. 4 bytes a dimension and some 200 more: 7 MB at 384 dimensions."""

DOCUMENT_BATCH = 32
"""Documents per forward pass; sentence-transformers sorts them by length first."""


Vector = NDArray[np.float32]
"""One embedding, of length 1."""
Vectors = NDArray[np.float32]
"""One embedding a row, of length 1."""


class EmbeddingModel(Protocol):
    """What a collection records of the model whose vectors it holds."""

    @property
    def model_name(self) -> str:
        """The name collections and answers carry."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in one embedding."""
        ...


class Embedder(EmbeddingModel, Protocol):
    """An embedding model on one device. Blocking, and not thread-safe: call it from one thread at a time."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions in one forward pass, one row each, in order."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages, one row each, in order; some models prepare them differently from questions."""
        ...


class SentenceEmbedder:
    """An ``Embedder`` from a sentence-transformers folder or hub name."""

    def __init__(self, path: str | Path, model_name: str, device: str = "auto", dtype: str = "float32") -> None:
        """Load the model onto a torch device in a torch dtype; `auto` is CUDA if there is one, else the CPU.

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
            self._model = SentenceTransformer(str(path), device=device).to(getattr(torch, dtype))
        except (OSError, ValueError) as error:
            raise FatalError(
                f"The embedding model {model_name!r} cannot be loaded from {path}: {error}. "
                "See `rerank-worker models`, or set RERANK_WORKER_RECALL__EMBEDDING_MODEL."
            ) from error
        self._model_name = model_name
        self._dtype = dtype
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
    def on_cpu(self) -> bool:
        """Whether it computes on the processor."""
        return self._model.device.type == "cpu"

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
        """Embed questions in one forward pass; those asked lately cost nothing. FatalError: the device is lost."""
        keys = {text: blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest() for text in texts}
        vectors = {text: self._cache[key] for text, key in keys.items() if key in self._cache}
        unknown = [text for text in dict.fromkeys(texts) if text not in vectors]
        if unknown:
            with _device_kept():
                encoded = self._model.encode_query(
                    unknown, batch_size=len(unknown), normalize_embeddings=True, show_progress_bar=False
                )
            # Copies: a row of the batch would keep the whole batch in memory for as long as it is cached.
            rows = (row.copy() for row in self._in_float32(encoded))
            vectors.update(zip(unknown, rows, strict=True))
        self._cache.update((keys[text], vector) for text, vector in vectors.items())
        return np.stack([vectors[text] for text in texts])

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages in batches of ``DOCUMENT_BATCH``. FatalError: the device is lost."""
        with _device_kept():
            encoded = self._model.encode_document(
                list(texts), batch_size=DOCUMENT_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
        return self._in_float32(encoded)

    def _in_float32(self, encoded: Any) -> Vectors:
        """Return embeddings as they are stored and compared; those of half precision are only nearly of length 1."""
        vectors = np.asarray(encoded, dtype=np.float32)
        return vectors if self._dtype == "float32" else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextmanager
def _device_kept() -> Iterator[None]:
    """Raise FatalError when the device is lost: after a CUDA fault every call of this process fails."""
    import torch  # noqa: PLC0415 - loaded with the model

    try:
        yield
    except torch.AcceleratorError as error:
        raise FatalError(f"the device that embeds is lost: {error}") from error


def load_embedder(model: ResolvedModel, settings: Settings) -> SentenceEmbedder:
    """Load the embedding model onto the device of ``settings``; `auto` is where pairs are scored.

    Blocks for seconds; raises FatalError.
    """
    import torch  # noqa: PLC0415 - as above

    recall = settings.recall
    device = settings.rerank.device if recall.device == "auto" else recall.device
    # Where nothing is scored, nobody else has told torch, which knows nothing of a container's share of the processor.
    torch.set_num_threads(cpu_threads(settings.rerank))
    return SentenceEmbedder(model.path, model.name, device, recall.dtype)
