"""An LLM endpoint that can be ill."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

Mood = Literal["well", "busy", "broken", "silent", "babbling"]

COMPLETION = {
    "id": "fake",
    "object": "chat.completion",
    "created": 0,
    "model": "fake-llm",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris [1]."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class FakeLlm:
    """Answers every question alike, or fails as its mood says. An OpenAI-compatible endpoint on a free port."""

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.requests = 0
        self._healed = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                endpoint.respond(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="fake-llm", daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def fall_ill(self, mood: Mood) -> None:
        self._healed.clear()
        self.mood = mood

    def heal(self) -> None:
        self.mood = "well"
        self._healed.set()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        mood = self.mood
        self.requests += 1
        if mood == "silent":
            # Until it is well again, or whoever asked has long gone.
            self._healed.wait(60)
        status = {"busy": 429, "broken": 500}.get(mood, 200)
        body = b"<html>not what you asked for" if mood == "babbling" else json.dumps(COMPLETION).encode()
        try:
            request.send_response(status)
            if mood == "busy":
                request.send_header("retry-after", "1")
            request.send_header("content-type", "application/json")
            request.send_header("content-length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
        except OSError:
            pass  # The worker has given up meanwhile, or has been killed.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
