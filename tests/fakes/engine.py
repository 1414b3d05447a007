"""A Docker engine as its API answers that of a client, with images and without containers; no network to fetch from."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.fakes.http import Reply, Request, http_server

API_VERSION = "1.41"


@dataclass
class FakeEngine:
    """Has these images, gets no other, and refuses all that is not about images."""

    images: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    address: str = ""

    def respond(self, request: Request) -> Reply:
        path = request.path.removeprefix(f"/v{API_VERSION}")
        if path == "/version":
            return _json(200, {"ApiVersion": API_VERSION, "MinAPIVersion": "1.24"})
        if path == "/_ping":
            return Reply(200, b"OK", {"Content-Type": "text/plain"})
        if path.startswith("/images/") and path.endswith("/json"):
            name = path.removeprefix("/images/").removesuffix("/json")
            known = _json(200, {"Id": "sha256:1", "RepoTags": [name]})
            return known if name in self.images else _json(404, {"message": f"No such image: {name}"})
        if path.startswith("/images/create"):
            self.fetched.append(path.partition("?")[2])
            return _json(500, {"message": "dial tcp: lookup registry.example: no such host"})
        return _json(500, {"message": "no containers today"})


def _json(status: int, value: object) -> Reply:
    return Reply(status, json.dumps(value).encode())


@contextmanager
def fake_engine(*images: str) -> Iterator[FakeEngine]:
    """Serve it while the context is open."""
    engine = FakeEngine(set(images))
    with http_server(engine.respond) as url:
        engine.address = url.replace("http://", "tcp://").removesuffix("/v1")
        yield engine
