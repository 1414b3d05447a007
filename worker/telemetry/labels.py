"""Which labels each counter is known to get: it begins at 0 with them, for ``rate()`` sees no series born at 1."""

from collections.abc import Mapping, Sequence

from schemas.events import AnswerStatus
from schemas.replies import ReplyRefusal

DEAD_LETTER = "dead_letter"

DEAD_LETTER_REASONS = (
    "answer_refused",
    "answer_too_large",
    "event_too_large",
    "foreign_document",
    "incompatible_collection",
    "internal_error",
    "invalid_filter",
    "invalid_headers",
    "invalid_json",
    "invalid_key",
    "invalid_schema",
    "invalid_utf8",
    "retries_exhausted",
    "store_crashed",
    "store_refused",
    "tombstone",
    "unavailable_value",
    "unknown_collection",
    "unsupported_operation",
)
"""Every reason of a dead letter that the worker knows of; others are counted too, from their first event on."""

STORE_ERRORS = ("collection_missing", "store_failed", "store_lost", "store_unavailable")
RERANKER_ERRORS = (
    "reranker_busy",
    "reranker_invalid_response",
    "reranker_refused",
    "reranker_timeout",
    "reranker_unavailable",
)
LLM_ERRORS = (
    "llm_busy",
    "llm_declined",
    "llm_invalid_response",
    "llm_no_answer",
    "llm_out_of_tokens",
    "llm_refused",
    "llm_timeout",
    "llm_unavailable",
)
"""Of endpoints: the codes that degraded answers carry (``worker/query/failures.py``)."""

LEXICAL_ERRORS = ("lexical_damaged", "lexical_failed", "lexical_missing", "lexical_timeout")
"""Of the lexical leg: codes that degraded answers carry as well."""
LEGS = ("dense", "lexical", "both")

# How an event may end that ends with no dead letter: what fails is told beside one.
_ANSWERED = tuple(status for status in AnswerStatus if status is not AnswerStatus.FAILED)
BATCHERS = ("embed", "recall", "rerank", "index")

DOCUMENT_OUTCOMES = ("written", "unchanged", "deleted", "absent", "superseded", "abandoned", "ignored")


def _each(label: str, values: Sequence[str]) -> list[dict[str, str]]:
    return [{label: str(value)} for value in values]


def _errors(dependency: str, codes: Sequence[str]) -> list[dict[str, str]]:
    return [{"dependency": dependency, "code": code} for code in codes]


KNOWN: Mapping[str, Sequence[Mapping[str, str]]] = {
    "events": _each("outcome", (*_ANSWERED, DEAD_LETTER)),
    "documents": _each("outcome", DOCUMENT_OUTCOMES),
    "dead_letters": _each("reason", DEAD_LETTER_REASONS),
    "replies": _each("outcome", ("sent", *ReplyRefusal)),
    "contexts_events": _each("outcome", ("sent", "failed", "dropped")),
    "degradations": _each("stage", ("recall", "rerank", "answer")),
    "contexts_by_leg": _each("legs", LEGS),
    "dependency_errors": [
        *_errors("store", STORE_ERRORS),
        *_errors("reranker", RERANKER_ERRORS),
        *_errors("llm", LLM_ERRORS),
        *_errors("lexical", LEXICAL_ERRORS),
    ],
    "llm_tokens": _each("kind", ("prompt", "completion")),
    "answer_store_lookups": _each("outcome", ("hit", "miss", "failed")),
    "rebalances": _each("kind", ("assigned", "revoked", "lost")),
    "epochs": _each("reason", ("offsets_went_back", "topic_made_again")),
    "commits": _each("outcome", ("ok", "put_off")),
    "batch_cost": _each("batcher", BATCHERS),
    "batch_padded_cost": _each("batcher", BATCHERS),
}
"""By counter, sets of labels."""
