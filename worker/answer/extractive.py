"""Answers without an LLM: the sentences of the contexts that the cross-encoder finds nearest to the question."""

import re
from collections.abc import Sequence

from worker.domain import Candidate, Context, GeneratedAnswer, Query, Reranker

# More would cost as many pairs as the reranking itself.
MAX_SENTENCES_SCORED = 24
MIN_SENTENCE_CHARS = 20

# A full stop, question or exclamation mark, then white space, then what can begin a sentence. Abbreviations may split
# a sentence in two; its better half is still a quotation.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(`])|\n+")


class ExtractiveAnswerer:
    """Implements ``Answerer`` by quotation: invents nothing, explains nothing."""

    def __init__(self, reranker: Reranker, *, cross_encoder: str, sentences: int) -> None:
        # The sentences of concurrent queries travel through the reranker's own micro-batches.
        self._reranker = reranker
        self._cross_encoder = cross_encoder
        self._sentences = sentences

    @property
    def model_name(self) -> str:
        """The name answers carry: says that nothing was generated."""
        return f"extractive:{self._cross_encoder}"

    async def answer(self, query: Query, contexts: Sequence[Context]) -> GeneratedAnswer:
        """Quote the best sentences, each with its context's number; see ``Answerer``."""
        sentences = [
            Candidate(context.candidate.document_id, sentence, rank, distance=0.0, metadata={"number": number})
            for rank, (number, context, sentence) in enumerate(_sentences(contexts), 1)
        ][:MAX_SENTENCES_SCORED]
        best = [scored.candidate for scored in await self._reranker.rerank(query, sentences)][: self._sentences]
        # The documents' own order reads better than the order of scores.
        quoted = sorted(best, key=lambda sentence: sentence.recall_rank)
        text = " ".join(f"{sentence.text} [{sentence.metadata['number']}]" for sentence in quoted)
        return GeneratedAnswer(text, list(dict.fromkeys(s.document_id for s in quoted)), self.model_name)


def _sentences(contexts: Sequence[Context]) -> list[tuple[int, Context, str]]:
    found = []
    for number, context in enumerate(contexts, 1):
        parts = [part.strip() for part in _SENTENCE_END.split(context.candidate.text)]
        long_enough = [part for part in parts if len(part) >= MIN_SENTENCE_CHARS]
        found += [(number, context, part) for part in long_enough or [context.candidate.text.strip()]]
    return found
