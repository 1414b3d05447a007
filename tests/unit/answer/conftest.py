"""A question, its contexts, and an LLM's answer as it comes."""

from typing import Any

from worker.domain import Candidate, Context, Query

QUERY = Query("q", "Why?", "docs", top_k=20, top_n=3)
CONTEXTS = [Context(Candidate(f"d{n}", f"passage {n}", n, 0.1), n, 1.0, 1.0) for n in (1, 2)]


def completion(text: str | None) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
