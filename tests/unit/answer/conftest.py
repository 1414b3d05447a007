"""An OpenAI-compatible endpoint that misbehaves as real ones do, for the real client."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

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
            # Whoever asked may have given up.
            with suppress(BrokenPipeError, ConnectionResetError):
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
