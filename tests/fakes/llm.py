"""An LLM endpoint that can be ill."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fakes.http import Reply, Request, http_server
from tests.patience import HANG_S

Mood = Literal["well", "busy", "broken", "silent", "babbling", "sick"]

COMPLETION = {
    "id": "fake",
    "object": "chat.completion",
    "created": 0,
    "model": "fake-llm",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris [1]."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def _sick(content: object, finish_reason: object = "stop", **message: object) -> bytes:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"content": content, **message}}
    return json.dumps({**COMPLETION, "choices": [choice]}).encode()


SICK_COMPLETIONS = (
    b"",
    b"null",
    b"[]",
    b'{"error": {"message": "overloaded", "code": 529}}',
    json.dumps({**COMPLETION, "choices": None}).encode(),
    json.dumps({**COMPLETION, "choices": [None]}).encode(),
    json.dumps({**COMPLETION, "choices": [{"message": None}]}).encode(),
    json.dumps({**COMPLETION, "usage": {"prompt_tokens": "many", "total_tokens": -1}}).encode(),
    _sick(None),
    _sick(""),
    _sick(None, "content_filter"),
    _sick(None, refusal="I would rather not."),
    _sick([{"type": "text", "text": "Paris "}, None, 7, {"type": "image"}, {"type": "text", "text": "[1]."}]),
    _sick("<think>[2]</think>"),
    _sick("Paris [" + "9" * 5_000 + "]."),
    _sick("Paris \ud800 [1]."),
    _sick("Paris", "length"),
)
"""What endpoints have been seen to answer with a status of 200, a kind each."""


@dataclass
class FakeLlm:
    """Answers every question alike, or fails as its mood says."""

    mood: Mood = "well"
    requests: int = 0
    asked: list[str] = field(default_factory=list)
    """The user's message of each request."""
    completion: dict[str, Any] = field(default_factory=lambda: COMPLETION)
    base_url: str = ""
    _healed: threading.Event = field(default_factory=threading.Event)

    def fall_ill(self, mood: Mood) -> None:
        self._healed.clear()
        self.mood = mood

    def heal(self) -> None:
        self.mood = "well"
        self._healed.set()

    def respond(self, request: Request) -> Reply:
        mood = self.mood
        self.asked.append(json.loads(request.body)["messages"][-1]["content"])
        self.requests += 1
        match mood:
            case "busy":
                return Reply(429, b"{}", {"Retry-After": "1"})
            case "broken":
                return Reply(500, b"{}")
            case "babbling":
                return Reply(200, b"<html>not what you asked for")
            case "sick":
                return Reply(200, SICK_COMPLETIONS[self.requests % len(SICK_COMPLETIONS)])
            case "silent":
                # Until it is well again: a busy machine is not to make it so.
                self._healed.wait(HANG_S)
        return Reply(200, json.dumps(self.completion).encode())


@contextmanager
def fake_llm() -> Iterator[FakeLlm]:
    """An OpenAI-compatible endpoint on a free port."""
    fake = FakeLlm()
    with http_server(fake.respond) as fake.base_url:
        try:
            yield fake
        finally:
            fake.heal()
