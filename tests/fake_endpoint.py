"""An HTTP endpoint that misbehaves as real ones do, for real clients."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeEndpoint:
    """Answers each request with the next of ``replies``: (status, headers, body); the last one again and again."""

    replies: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event | None = None
    base_url: str = ""

    def reply(self, status: int, body: object, **headers: str) -> "FakeEndpoint":
        text = body if isinstance(body, str) else json.dumps(body)
        self.replies.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, text))
        return self


@contextmanager
def fake_endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()

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
