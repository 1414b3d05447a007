"""Answers without an LLM: the sentences of the contexts that the cross-encoder finds nearest to the question.

Sentences end where Unicode says (UAX #29), in any language, and with their line. That knows no abbreviations: "Dr."
ends one. So what is too short for a sentence is joined to what follows it.
"""

from collections.abc import Iterator, Sequence

from semantic_text_splitter import TextSplitter

from worker.domain import Candidate, Context, GeneratedAnswer, Query, Reranker

# More would cost as many pairs as the reranking itself.
MAX_SENTENCES_SCORED = 24
# A second sentence that says the same lies half a logit below the first, one that only shares its words 20 (measured
# with the offline model). Between them no margin parts the two: of 24 second sentences on the sample corpus 9 are of a
# passage that answers.
LOGIT_MARGIN = 3.0
# Of scores from 0 to 1; not measured, since no reranker that gives them could be had.
BOUNDED_MARGIN = 0.2
# As many as are scored, each of them rather long. Finding sentences takes time with the square of the text.
MAX_CHARS = 4_000
# UTF-8, so that three Chinese characters count as much as nine letters.
MIN_BYTES = 9

# From 1 character on a chunk may end, and it ends at the highest boundary within the line: a sentence's.
_SPLITTER = TextSplitter((1, MAX_CHARS))


class ExtractiveAnswerer:
    """Implements ``Answerer`` by quotation: invents nothing, explains nothing."""

    def __init__(self, reranker: Reranker, *, cross_encoder: str, sentences: int, margin: float) -> None:
        """Quote at most so many ``sentences``; each but the best must score no more than ``margin`` below it.

        A query's ``min_score`` is no measure here: it may hold for scores with the prior of recall, which a sentence
        has not.
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
            for rank, (number, context, sentence) in enumerate(_numbered(contexts), 1)
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


def _numbered(contexts: Sequence[Context]) -> list[tuple[int, Context, str]]:
    return [
        (number, context, sentence)
        for number, context in enumerate(contexts, 1)
        for sentence in sentences(context.judged_text) or [context.judged_text]
    ]


def sentences(text: str) -> list[str]:
    """Return the sentences of a text's beginning, as they stand there. Blocks for 0.1 s at the worst."""
    # A half of a character, which a store may hold, is refused by the splitter.
    lines = text[:MAX_CHARS].encode("utf-16", "surrogatepass").decode("utf-16", "replace").splitlines()
    found = [sentence for line in lines for sentence in _of_line(line)]
    if len(text) > MAX_CHARS and len(found) > 1:
        # The end of the text has cut it.
        found.pop()
    return [sentence for sentence in found if _is_long_enough(sentence)] or found


def _of_line(line: str) -> Iterator[str]:
    parts = [(start, start + len(part)) for start, part in _SPLITTER.chunk_indices(line)] if line.strip() else []
    begun: int | None = None
    for number, (start, stop) in enumerate(parts):
        begun = start if begun is None else begun
        rest = line[stop:].strip()
        if number == len(parts) - 1 or (_is_long_enough(line[begun:stop]) and _is_long_enough(rest)):
            yield line[begun:stop]
            begun = None


def _is_long_enough(text: str) -> bool:
    return len(text.encode()) >= MIN_BYTES
