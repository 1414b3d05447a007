"""What events say of a stage that failed: a stable code and a sentence of ours for it.

Never the words of a provider, which may name hosts, accounts and other people's texts: those are in the log.
Short: a table and its look-up.
"""

from collections.abc import Mapping

from worker.errors import TransientError

SENTENCES: Mapping[str, str] = {
    "llm_unavailable": "the LLM could not be reached, failed, or was left alone because it had failed before",
    "llm_busy": "the LLM's endpoint takes no more requests for now",
    "llm_timeout": "the LLM gave no answer in time",
    "llm_refused": "the LLM's endpoint refused the request: a key, a model, a parameter or a length it does not take",
    "llm_declined": "the LLM declined to answer this question from these passages",
    "llm_no_answer": "the LLM ended without an answer",
    "llm_out_of_tokens": "the LLM reached its length limit before it began to answer",
    "llm_invalid_response": "the LLM's endpoint answered something else than a completion",
    "reranker_unavailable": "the reranker could not be reached, failed, or was left alone because it had failed before",
    "reranker_busy": "the reranker's endpoint takes no more requests for now",
    "reranker_timeout": "the reranker gave no scores in time",
    "reranker_refused": "the reranker's endpoint refused the request: a key, a model or a length it does not take",
    "reranker_invalid_response": "the reranker's endpoint answered something else than a ranking",
    "lexical_missing": "the lexical index has no filled file of the collection: vectors alone were asked",
    "lexical_damaged": "the collection's file of the lexical index is damaged: vectors alone were asked",
    "lexical_timeout": "the lexical index gave nothing in time: vectors alone were asked",
    "lexical_failed": "the lexical index could not be read: vectors alone were asked",
    "recall_failed": "the vector store could not be searched",
    "rerank_failed": "the candidates could not be scored",
    "answer_failed": "the answer could not be made",
}


def code_of(error: TransientError, stage: str) -> str:
    """Return the error's code, or that of the stage it ended if it has none."""
    return error.code or f"{stage}_failed"


def sentence(code: str) -> str:
    """Return what readers are told of a code."""
    return SENTENCES.get(code, "a part the query needs has failed")
