"""An HTTP endpoint that misbehaves as it is told, request by request, for real clients."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.http import Reply, Request, http_server
from tests.patience import HANG_S


@dataclass
class FakeEndpoint:
    """Answers each request with the next of ``replies``; the last one again and again."""

    replies: list[Reply] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event | None = None
    base_url: str = ""

    def reply(self, status: int, body: object, **headers: str) -> "FakeEndpoint":
        text = body if isinstance(body, str) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append(Reply(status, text.encode(), named))
        return self

    def respond(self, request: Request) -> Reply:
        self.requests.append(
            {
                "body": json.loads(request.body),
                "authorization": request.headers.get("Authorization"),
                "headers": {name.lower(): value for name, value in request.headers.items()},
            }
        )
        if self.hold is not None:
            self.hold.wait(HANG_S)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def fake_endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    with http_server(fake.respond) as fake.base_url:
        yield fake
