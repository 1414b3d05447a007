"""The same pair twice in a batch is scored once: texts that recall returns twice, questions asked at the same time."""

from collections.abc import Callable, Sequence

from worker.rerank.scorer import EncodedPair


def score_once(score: Callable[[Sequence[EncodedPair]], list[float]], pairs: Sequence[EncodedPair]) -> list[float]:
    """Return one score per pair, in order, with ``score`` asked for the distinct ones only."""
    keys = [(tuple(pair.input_ids), tuple(pair.token_type_ids)) for pair in pairs]
    distinct = dict(zip(keys, pairs, strict=True))
    scores = dict(zip(distinct, score(list(distinct.values())), strict=True))
    return [scores[key] for key in keys]
