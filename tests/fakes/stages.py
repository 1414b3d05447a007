"""The stages of a query without a model or a store, each failing as told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.domain import Candidate, Context, GeneratedAnswer, Query, Recalled


@dataclass
class FakeRecall:
    found: int = 3
    error: Exception | None = None
    lacks: str | None = None

    async def recall(self, query: Query) -> Recalled:
        if self.error:
            raise self.error
        ranks = range(1, self.found + 1)
        return Recalled((Candidate(f"d{rank}", f"text {rank}", rank, rank / 10) for rank in ranks), lacks=self.lacks)


@dataclass
class FakeReversingReranker:
    """Scores the last candidate best: 1, 2, 3, … in recall order."""

    error: Exception | None = None

    async def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Sequence[Context]:
        if self.error:
            raise self.error
        best_first = sorted(candidates, key=lambda candidate: -candidate.recall_rank)
        return [Context(c, rank, float(c.recall_rank), float(c.recall_rank)) for rank, c in enumerate(best_first, 1)]


@dataclass
class FakeAnswerer:
    error: Exception | None = None
    asked: list[Sequence[Context]] = field(default_factory=list)

    @property
    def model_name(self) -> str:
        return "fake"

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        self.asked.append(contexts)
        if self.error:
            raise self.error
        return GeneratedAnswer("because [1]", [contexts[0].candidate.document_id], "fake")
