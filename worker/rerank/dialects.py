"""How rerankers behind HTTP are asked and what they answer: Cohere's protocol, and text-embeddings-inference's own.

Cohere's (https://docs.cohere.com/reference/rerank) is taken by Jina, vLLM, infinity and others too. That of
text-embeddings-inference is https://huggingface.github.io/text-embeddings-inference, operation `rerank`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from worker.errors import TransientError


class _OfCohere(BaseModel):
    index: int
    score: float = Field(validation_alias="relevance_score")


class _Ranking(BaseModel):
    results: list[_OfCohere]


class _OfTei(BaseModel):
    index: int
    score: float


_RANKS = TypeAdapter(list[_OfTei])


@dataclass(frozen=True, slots=True)
class Dialect:
    """A protocol of one query and its documents a request."""

    body: Callable[[str, str, Sequence[str]], dict[str, JsonValue]]
    """Makes a request of a model's name, a query and documents; every document is to get its score."""
    read: Callable[[bytes], Sequence[_OfCohere | _OfTei]]
    """Reads the scores of a response, in any order; pydantic's ValidationError if there are none."""
    documents: int
    """Most documents of one request, where the settings don't say."""
    gives_logits: bool
    """Whether scores are any number; else they lie between 0 and 1."""

    def scores(self, response: bytes, documents: int) -> list[float]:
        """Return the scores in the documents' order; TransientError if they are not one number for each."""
        try:
            results = self.read(response)
        except ValidationError as error:
            wrong = error.errors(include_input=False, include_url=False)[0]
            field = ".".join(map(str, wrong["loc"])) or "the body"
            raise _no_ranking(f"{field}: {wrong['msg']}") from error
        scores = {result.index: result.score for result in results}
        if sorted(scores) != list(range(documents)) or len(results) != documents:
            raise _no_ranking(f"{len(results)} scores for {documents} documents, or one twice")
        for index, score in scores.items():
            if not math.isfinite(score):
                raise _no_ranking(f"the score of index {index} is no number")
        return [scores[index] for index in range(documents)]


DIALECTS: Mapping[str, Dialect] = {
    "cohere": Dialect(
        body=lambda model, query, documents: {
            "model": model,
            "query": query,
            "documents": list(documents),
            "top_n": len(documents),
        },
        read=lambda response: _Ranking.model_validate_json(response).results,
        documents=1_000,
        gives_logits=False,
    ),
    # It has one model, and no name for it. Logits: a sigmoid would have rounded the best ones to one number. What is
    # too long it refuses with all the rest, unless told to cut it.
    "tei": Dialect(
        body=lambda _model, query, documents: {
            "query": query,
            "texts": list(documents),
            "raw_scores": True,
            "truncate": True,
        },
        read=_RANKS.validate_json,
        documents=32,
        gives_logits=True,
    ),
}


def _no_ranking(why: str) -> TransientError:
    return TransientError(
        f"the reranker answered something else than a ranking: {why}", code="reranker_invalid_response"
    )
