"""Candidates of the questions, by the worker's own recall stage: from a collection, or from files indexed for it."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from worker.batching.executor import compute_executor
from worker.documents.files.ingest import ingest
from worker.documents.files.readers import find
from worker.domain import Candidate, Query
from worker.errors import FatalError
from worker.evaluation.questions import Question
from worker.evaluation.rankings import Found
from worker.models.resolve import resolve
from worker.recall.embedder import load_embedder
from worker.recall.lexical.search import new_search
from worker.recall.stage import BatchedRecall
from worker.settings import Settings

Watch = Callable[[str, int, int], None]
"""Told what goes on, and how many of how many are done; of nought as long as that is not known."""

COLLECTION = "evaluation"


def recall(settings: Settings, questions: Sequence[Question], *, top_k: int, watch: Watch) -> Found:
    """Return the candidates of each question from ``recall.collection``. Blocks; raises as ``Recall``, and at once.

    FatalError if nothing at all is recalled: the collection is empty.
    """
    found = asyncio.run(_recall(settings, questions, top_k, watch))
    if not any(found.values()):
        raise FatalError(f"the collection {settings.recall.collection!r} has no document for any of the questions")
    return found


@contextmanager
def indexed(settings: Settings, corpus: Sequence[Path], watch: Watch) -> Iterator[Settings]:
    """Index files, or folders of such, for the occasion; yields the settings to recall from there, gone afterwards.

    As `rerank-worker ingest` reads and cuts them. Blocks, for minutes with a large corpus; FatalError lists what can't
    be indexed.
    """
    files = find(corpus)
    with tempfile.TemporaryDirectory(prefix="rerank-worker-evaluate-") as folder:
        there = {"mode": "embedded", "path": Path(folder), "collection": COLLECTION}
        if settings.recall.lexical_path is not None:
            there["lexical_path"] = Path(folder) / "lexical"
        occasional = settings.model_copy(update={"recall": settings.recall.model_copy(update=there)})
        ingest(
            files.read(),
            settings=occasional,
            progress=lambda report: watch("indexing the corpus (chunks)", report.added, 0),
            say=lambda what: watch(what, 0, 0),
        )
        yield occasional


async def _recall(settings: Settings, questions: Sequence[Question], top_k: int, watch: Watch) -> Found:
    watch("loading the embedding model", 0, 0)
    # Nobody waits beside a command for a store, or for a collection, that is away.
    recalling = settings.recall.model_copy(update={"patience_s": 0.0, "top_k": top_k})
    model = await asyncio.to_thread(resolve, "embedding", settings)
    async with compute_executor() as executor:
        embedder = await executor.run(partial(load_embedder, model, settings))
        stage = BatchedRecall(embedder, new_search(recalling, embedder), recalling, executor=executor)
        done = 0

        async def recalled(question: Question) -> Sequence[Candidate]:
            nonlocal done
            query = Query(question.id, question.text, recalling.collection, top_k=top_k, top_n=1)
            candidates = await stage.recall(query)
            done += 1
            watch("recalling candidates", done, len(questions))
            return candidates

        try:
            await stage.start()
            async with asyncio.TaskGroup() as group:
                tasks = {each.id: group.create_task(recalled(each)) for each in questions}
        except ExceptionGroup as failed:
            # One that fails ends the others; why it did is what counts.
            raise failed.exceptions[0] from None
        finally:
            await stage.close()
    return {identifier: task.result() for identifier, task in tasks.items()}
