"""Answers without an LLM: the sentences of the contexts that the cross-encoder finds nearest to the question."""

from collections.abc import Sequence

from worker.answer.sentences import sentences
from worker.domain import Candidate, Context, GeneratedAnswer, Query, Reranker

# More would cost as many pairs as the reranking itself.
MAX_SENTENCES_SCORED = 24
# A second sentence that answers too lies about as near as the first; one that only shares its words lies 4 to 10 logits
# or 0.3 to 0.5 of a bounded score lower (measured with the offline models).
LOGIT_MARGIN = 2.0
BOUNDED_MARGIN = 0.2


class ExtractiveAnswerer:
    """Implements ``Answerer`` by quotation: invents nothing, explains nothing."""

    def __init__(self, reranker: Reranker, *, cross_encoder: str, sentences: int, margin: float) -> None:
        """Quote at most so many ``sentences``; each but the best must score no more than ``margin`` below it.

        A query's ``min_score`` is no measure here: it holds for scores with the prior of recall, which a sentence has
        not.
        """
        # The sentences of concurrent queries travel through the reranker's own micro-batches.
        self._reranker = reranker
        self._cross_encoder = cross_encoder
        self._sentences = sentences
        self._margin = margin

    @property
    def model_name(self) -> str:
        """The name answers carry: says that nothing was generated."""
        return f"extractive:{self._cross_encoder}"

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Quote the best sentences, each with its context's number; see ``Answerer``."""
        found = [
            Candidate(context.candidate.document_id, sentence, rank, distance=0.0, metadata={"number": number})
            for rank, (number, context, sentence) in enumerate(_sentences(contexts), 1)
        ][:MAX_SENTENCES_SCORED]
        ranking = await self._reranker.rerank(query, found)
        best = [scored.candidate for scored in ranking[: self._sentences] if self._is_near(scored, ranking[0])]
        # The documents' own order reads better than the order of scores.
        quoted = sorted(best, key=lambda sentence: sentence.recall_rank)
        text = " ".join(f"{sentence.text} [{sentence.metadata['number']}]" for sentence in quoted)
        return GeneratedAnswer(text, list(dict.fromkeys(s.document_id for s in quoted)), self.model_name)

    def _is_near(self, scored: Context, best: Context) -> bool:
        if scored.rerank_score is None or best.rerank_score is None:
            return scored is best
        return best.rerank_score - scored.rerank_score <= self._margin


def _sentences(contexts: Sequence[Context]) -> list[tuple[int, Context, str]]:
    return [
        (number, context, sentence)
        for number, context in enumerate(contexts, 1)
        for sentence in sentences(context.judged_text) or [context.judged_text]
    ]
