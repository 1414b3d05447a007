"""Documents longer than the model's window: which of their tokens are read together, and the score of the whole."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from worker.rerank.ranking import Judgement
from worker.rerank.scorer import EncodedPair

# A sentence cut by the end of one window is whole in the next one if it is no longer than this share of it.
OVERLAP = 8


def windows(tokens: int, room: int, at_most: int) -> list[range]:
    """Return the windows, of ``room`` tokens each and the last of what is left, that cover a document in order."""
    overlap = room // OVERLAP
    starts = range(0, max(1, tokens - overlap), max(1, room - overlap))[:at_most]
    return [range(start, min(start + room, tokens)) for start in starts]


def judge_documents(pairs: Sequence[EncodedPair], logits: Sequence[float], *, mean: bool) -> list[Judgement]:
    """Return one judgement per document, in order: the best logit of its windows, or their mean."""
    judgements = []
    by_document = groupby(zip(pairs, logits, strict=True), key=lambda scored: scored[0].document)
    for _, scored in by_document:
        group = list(scored)
        scores = [logit for _, logit in group]
        judgements.append(Judgement(fmean(scores) if mean else max(scores), len(group), group[0][0].truncated))
    return judgements
