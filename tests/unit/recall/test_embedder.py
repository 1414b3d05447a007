"""An embedder on the thread that loaded it: the same vectors, errors and all, from another thread."""

import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from worker.batching.executor import SingleThreadExecutor, compute_executor
from worker.recall import embedder as module
from worker.recall.embedder import ExecutorEmbedder, Vectors


class FakeEmbedder:
    """A text's only number is its length; remembers which threads asked."""

    model_name = "fake"
    dimension = 1

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.threads.add(threading.current_thread().name)
        if "broken" in texts:
            raise ValueError("broken")
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    embed_documents = embed_queries


@pytest.fixture
async def executor() -> AsyncIterator[SingleThreadExecutor]:
    async with compute_executor() as thread:
        yield thread


async def test_it_embeds_on_that_thread_alone(executor: SingleThreadExecutor) -> None:
    fake = FakeEmbedder()
    embedder = ExecutorEmbedder(fake, executor)
    assert embedder.embed_queries(["a", "bb"]).tolist() == embedder.embed_documents(["a", "bb"]).tolist() == [[1], [2]]
    assert fake.threads == {"compute"}
    assert (embedder.model_name, embedder.dimension) == ("fake", 1)


async def test_an_error_is_its_callers(executor: SingleThreadExecutor) -> None:
    with pytest.raises(ValueError, match="broken"):
        ExecutorEmbedder(FakeEmbedder(), executor).embed_queries(["broken"])


async def test_a_thread_that_hangs_is_not_waited_for_for_ever(
    executor: SingleThreadExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EMBED_TIMEOUT_S", 0.01)
    release = threading.Event()
    executor.submit(lambda: release.wait(10))
    fake = FakeEmbedder()
    with pytest.raises(TimeoutError):
        ExecutorEmbedder(fake, executor).embed_queries(["a"])
    release.set()
    await executor.run(lambda: None)
    assert not fake.threads, "what was given up is not embedded afterwards"
