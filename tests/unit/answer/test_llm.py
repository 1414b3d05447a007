"""The real OpenAI client against a server that misbehaves as real ones do."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from worker.answer.llm import LlmAnswerer
from worker.errors import TransientError
from worker.settings import AnswerSettings
from worker.types import Candidate, Context, Query

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


@dataclass
class FakeOpenAI:
    """Answers each request with the next of ``replies``: (status, headers, body); the last one again and again."""

    replies: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event | None = None
    base_url: str = ""

    def reply(self, status: int, body: object, **headers: str) -> "FakeOpenAI":
        text = body if isinstance(body, str) else json.dumps(body)
        self.replies.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, text))
        return self


@pytest.fixture
def endpoint() -> Iterator[FakeOpenAI]:
    fake = FakeOpenAI()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fake.requests.append({"body": json.loads(body), "authorization": self.headers["Authorization"]})
            if fake.hold is not None:
                fake.hold.wait(10)
            status, headers, text = fake.replies.pop(0) if len(fake.replies) > 1 else fake.replies[0]
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    fake.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield fake
    server.shutdown()
    server.server_close()
    thread.join(5)


async def ask(endpoint: FakeOpenAI, **settings: object) -> Any:
    llm = LlmAnswerer(
        AnswerSettings.model_validate({"timeout_s": 5, **settings}), model="tiny", base_url=endpoint.base_url
    )
    try:
        return await llm.answer(QUERY, CONTEXTS)
    finally:
        await llm.close()


async def test_an_answer_carries_its_citations_model_and_tokens(endpoint: FakeOpenAI) -> None:
    endpoint.reply(200, completion("Because [2]. Also [9]."))
    answer = await ask(endpoint, api_key="secret", max_tokens=42)
    assert answer.text == "Because [2]. Also."
    assert answer.citations == ["d2"]
    assert answer.model == "tiny"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    [request] = endpoint.requests
    assert request["authorization"] == "Bearer secret"
    assert request["body"]["max_tokens"] == 42
    assert [message["role"] for message in request["body"]["messages"]] == ["system", "user"]
    assert "passage 1" not in request["body"]["messages"][0]["content"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_endpoint_is_asked_again(endpoint: FakeOpenAI, status: int) -> None:
    endpoint.reply(status, "busy", Retry_After="0").reply(200, completion("Fine [1]."))
    assert (await ask(endpoint)).text == "Fine [1]."
    assert len(endpoint.requests) == 2


async def test_tries_are_limited(endpoint: FakeOpenAI) -> None:
    endpoint.reply(503, "busy", Retry_After="0")
    with pytest.raises(TransientError, match="503"):
        await ask(endpoint, attempts=2)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_will_not_change_is_not_asked_again(endpoint: FakeOpenAI, status: int) -> None:
    endpoint.reply(status, {"error": {"message": "no such thing"}})
    with pytest.raises(TransientError, match=str(status)):
        await ask(endpoint)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("body", ["<html>", completion(None), completion("  "), {**completion("x"), "choices": []}])
async def test_garbage_is_no_answer(endpoint: FakeOpenAI, body: object) -> None:
    endpoint.reply(200, body)
    with pytest.raises(TransientError):
        await ask(endpoint, attempts=1)


async def test_a_retry_after_beyond_the_deadline_ends_at_the_deadline(endpoint: FakeOpenAI) -> None:
    endpoint.reply(429, "later", Retry_After="3600")
    with pytest.raises(TransientError, match=r"within 0\.3 s"):
        await ask(endpoint, timeout_s=0.3)


async def test_a_hanging_endpoint_ends_at_the_deadline(endpoint: FakeOpenAI) -> None:
    endpoint.hold = threading.Event()
    endpoint.reply(200, completion("too late"))
    with pytest.raises(TransientError, match="gave no answer"):
        await ask(endpoint, timeout_s=0.3)
    endpoint.hold.set()


async def test_an_endpoint_that_is_not_there_is_transient() -> None:
    with pytest.raises(TransientError, match="can't be reached"):
        await ask(FakeOpenAI(base_url="http://127.0.0.1:9/v1"), attempts=1)
