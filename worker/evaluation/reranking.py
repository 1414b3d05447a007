"""Candidates scored by the worker's own rerank stage, and how long a query takes; or by embeddings alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from worker.batching.executor import compute_executor
from worker.domain import Candidate, Context, Query, Reranker
from worker.evaluation.cosine import CosineReranker
from worker.evaluation.questions import Question
from worker.evaluation.rankings import Found, Scored
from worker.evaluation.recalling import Watch
from worker.models.resolve import ResolvedModel
from worker.recall.embedder import load_embedder
from worker.rerank.remote import RemoteReranker
from worker.rerank.scorer import load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import Settings

TIMED_QUERIES = 50
"""That fewer candidates are timed on; the most are timed on every query, which is scored in any case."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One reranker to evaluate."""

    settings: Settings
    model: ResolvedModel | str
    """A model on this machine, or the URL of the endpoint that has it. An embedding model orders by its cosine."""
    label: str
    """Put behind the model's name, to tell it from others."""


def score(
    subject: Subject, questions: Sequence[Question], found: Found, *, top_ks: Sequence[int], watch: Watch
) -> Scored:
    """Score every candidate of every question once, one query at a time, and time fewer candidates on some of them.

    Blocks for as long as that takes; raises TransientError or FatalError as the rerank stage does.
    """
    return asyncio.run(_score(subject, questions, found, top_ks, watch))


async def _score(
    subject: Subject, questions: Sequence[Question], found: Found, top_ks: Sequence[int], watch: Watch
) -> Scored:
    watch("loading the reranker", 0, 0)
    asked = [each for each in questions if found.get(each.id)]
    async with _opened(subject) as (reranker, model):
        name = f"{model}{subject.label}"
        # The first query of a process pays for what the others find ready.
        await reranker.rerank(*_first(asked[0], found, max(top_ks)))
        scores: dict[str, list[float]] = {}
        pairs: dict[str, int] = {}
        seconds: dict[int, list[float]] = {top_k: [] for top_k in top_ks}
        for done, question in enumerate(asked, 1):
            begun_s = time.perf_counter()
            ranking = await reranker.rerank(*_first(question, found, max(top_ks)))
            seconds[max(top_ks)].append(time.perf_counter() - begun_s)
            scores[question.id] = _scores(ranking)
            pairs[question.id] = sum(context.windows or 1 for context in ranking)
            watch(f"reranking with {name}", done, len(asked))
        fewer = sorted(set(top_ks))[:-1]
        timed = asked[:TIMED_QUERIES]
        for done, (top_k, question) in enumerate(((top_k, each) for top_k in fewer for each in timed), 1):
            begun_s = time.perf_counter()
            await reranker.rerank(*_first(question, found, top_k))
            seconds[top_k].append(time.perf_counter() - begun_s)
            watch("timing fewer candidates", done, len(fewer) * len(timed))
    return Scored(name, scores, pairs, seconds)


def _first(question: Question, found: Found, top_k: int) -> tuple[Query, Sequence[Candidate]]:
    candidates = found[question.id][:top_k]
    return Query(question.id, question.text, "", top_k=top_k, top_n=1), candidates


def _scores(ranking: Sequence[Context]) -> list[float]:
    by_recall = sorted(ranking, key=lambda context: context.candidate.recall_rank)
    return [context.rerank_score or 0.0 for context in by_recall]


@asynccontextmanager
async def _opened(subject: Subject) -> AsyncIterator[tuple[Reranker, str]]:
    """Load a reranker as a worker with these settings does; yields it and its model's name, and closes it."""
    settings, model = subject.settings, subject.model
    if isinstance(model, str):
        remote = RemoteReranker(settings.rerank, model)
        try:
            await remote.check()
            yield remote, settings.rerank.model
        finally:
            await remote.close()
        return
    async with compute_executor() as executor:
        if model.role == "embedding":
            yield CosineReranker(await executor.run(partial(load_embedder, model, settings)), executor), model.name
            return
        # No query finds tokens of another's documents: what is measured is what the first query pays.
        rerank = settings.rerank.model_copy(update={"token_cache_documents": 0})
        scorer = await executor.run(partial(load_scorer, model, rerank, settings.cache_dir))
        weight = model.prior_weight if rerank.prior_weight is None else rerank.prior_weight
        stage = MicroBatchedReranker(scorer, rerank, prior_weight=weight, on_batch=lambda _: None, executor=executor)
        try:
            yield stage, model.name
        finally:
            await stage.close()
