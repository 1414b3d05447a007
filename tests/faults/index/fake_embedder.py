"""An embedder that takes no time, so that the faults meet what reads, writes and commits: vectors are made of a digest.

What of a text stands beside it in the collection can be told by its vector all the same: each text has its own.
"""

import signal
import threading
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.hanging_worker import HANG_SIGNAL
from worker.documents.chunker import Chunker
from worker.models.resolve import ResolvedModel
from worker.recall.embedder import Vectors
from worker.settings import Settings

WORDS_A_CHUNK = 32


class FakeEmbedder:
    """Has what the live index asks of one. Hangs for good from the signal on."""

    model_name = "fake-embedder"
    dimension = 384
    max_tokens = WORDS_A_CHUNK

    def __init__(self, told_to_hang: threading.Event | None = None) -> None:
        self._told_to_hang = told_to_hang

    def new_tokenizer(self) -> Tokenizer:
        """One token a word."""
        tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 - a token, not a secret
        tokenizer.pre_tokenizer = Whitespace()
        return tokenizer

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        if self._told_to_hang is not None and self._told_to_hang.is_set():
            threading.Event().wait()
        return np.stack([_vector(text) for text in texts])


def _vector(text: str) -> Vectors:
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    drawn = np.random.default_rng(seed).standard_normal(FakeEmbedder.dimension).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def new_chunker() -> Chunker:
    """Return what cuts as the processes under test do."""
    return Chunker(FakeEmbedder().new_tokenizer(), FakeEmbedder.max_tokens)


STANDS_STILL = "standsstill"
"""A word at which a process that was told to stands still for good, unless it is woken."""


class StoppingEmbedder(FakeEmbedder):
    """Has embedded, and stops its process before anybody gets the vectors."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed_documents(texts)
        if any(STANDS_STILL in text for text in texts):
            # To this thread: sent to the process it may reach another first, and this one goes on for milliseconds.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return vectors


def embed_and_stop() -> None:
    """Have the live index of this process stop when it has embedded the word; called beforehand."""
    _embed_with(StoppingEmbedder())


def embed_by_digest() -> None:
    """Have the live index of this process embed so; for a worker's process, called beforehand."""
    told = threading.Event()
    signal.signal(HANG_SIGNAL, lambda _number, _frame: told.set())
    _embed_with(FakeEmbedder(told))


def _embed_with(embedder: FakeEmbedder) -> None:
    from worker.app import build_index  # noqa: PLC0415 - seconds, which the oracle's own tests have no use for

    def load(_model: ResolvedModel, _settings: Settings) -> FakeEmbedder:
        return embedder

    build_index.load_embedder = load  # type: ignore[assignment]
