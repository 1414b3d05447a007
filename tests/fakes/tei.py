"""text-embeddings-inference's `POST /rerank` as its router documents and checks it, around a model that counts words.

Read in router/src/http/server.rs and types.rs of huggingface/text-embeddings-inference.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.http import Reply, Request, http_server

FIELDS = {"query", "texts", "truncate", "truncation_direction", "raw_scores", "return_text"}


@dataclass
class FakeTei:
    """Scores a text by the words it shares with the query: logits of 4 for each, less 6."""

    max_client_batch_size: int = 32
    max_input_words: int = 512
    api_key: str | None = None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)

    def respond(self, request: Request) -> Reply:
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return Reply(401, b"")
        if request.path != "/rerank":
            return Reply(404, b"")
        asked = json.loads(request.body)
        self.requests.append(asked)
        return self._refusal(asked) or self._ranks(asked)

    def _refusal(self, asked: dict[str, Any]) -> Reply | None:
        for name, kind in (("query", str), ("texts", list)):
            if not isinstance(asked.get(name), kind):
                said = f"Failed to deserialize the JSON body into the target type: missing field `{name}`"
                return Reply(422, said.encode())
        texts = asked["texts"]
        if not texts:
            return _error(400, "`texts` cannot be empty", "empty")
        if len(texts) > self.max_client_batch_size:
            limit = self.max_client_batch_size
            return _error(413, f"batch size {len(texts)} > maximum allowed batch size {limit}", "validation")
        if not asked.get("truncate") and any(len(text.split()) > self.max_input_words for text in texts):
            return _error(413, f"`inputs` must have less than {self.max_input_words} tokens", "validation")
        return None

    def _ranks(self, asked: dict[str, Any]) -> Reply:
        read = [" ".join(text.split()[: self.max_input_words]) for text in asked["texts"]]
        logits = [self._logit(asked["query"], text) for text in read]
        scores = logits if asked.get("raw_scores") else [1 / (1 + math.exp(-logit)) for logit in logits]
        ranks = [{"index": index, "score": score} for index, score in enumerate(scores)]
        return Reply(200, json.dumps(sorted(ranks, key=lambda rank: -rank["score"])).encode())

    def _logit(self, query: str, text: str) -> float:
        return 4.0 * len(set(query.lower().split()) & set(text.lower().split())) - 6.0


def _error(status: int, error: str, error_type: str) -> Reply:
    return Reply(status, json.dumps({"error": error, "error_type": error_type}).encode())


@contextmanager
def fake_tei(**limits: Any) -> Iterator[FakeTei]:
    fake = FakeTei(**limits)
    with http_server(fake.respond) as base_url:
        fake.url = f"{base_url.removesuffix('/v1')}/rerank"
        yield fake
