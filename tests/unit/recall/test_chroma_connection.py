"""What lies between the worker and Chroma's server: proxies that refuse, fail, garble or say nothing."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.patience import HANG_S
from worker.domain import Query
from worker.errors import FatalError, TransientError
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import Embedder
from worker.recall.searches import Searches
from worker.settings import RecallSettings

IN_TIME = "did not answer in time|No time was left"
"""The second is what is said where nothing was asked any more."""


class FakeProxy(ThreadingHTTPServer):
    """Answers everything with one status and body, and remembers what it was asked."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.headers_seen: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: FakeProxy

    def do_GET(self) -> None:
        self.server.headers_seen.append(dict(self.headers))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[Callable[..., FakeProxy]]:
    proxies: list[FakeProxy] = []

    def start(status: int, body: bytes = b"") -> FakeProxy:
        proxies.append(FakeProxy(status, body))
        Thread(target=proxies[-1].serve_forever, args=[0.01]).start()
        return proxies[-1]

    yield start
    for each in proxies:
        each.shutdown()
        each.server_close()


@pytest.fixture
def check() -> Callable[..., None]:
    """Ask the store of these settings something."""

    def run(port: int = 1, *, timeout_s: float = 10.0, **settings: object) -> None:
        connection = ChromaConnection(
            RecallSettings.model_validate({"host": "127.0.0.1", "port": port, "attempts": 2} | settings)
        )
        try:
            connection.run(lambda client: client.list_collections(), deadline=time.monotonic() + timeout_s)
        finally:
            connection.close()

    return run


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_fatal_at_once_and_name_the_setting(
    proxy: Callable[..., FakeProxy], check: Callable[..., None], status: int
) -> None:
    server = proxy(status)
    with pytest.raises(FatalError, match="RERANK_WORKER_RECALL__API_KEY"):
        check(server.server_port)
    assert len(server.headers_seen) == 1


@pytest.mark.parametrize(
    ("settings", "header"), [({"headers": {"x-token": "s3cret"}}, "x-token"), ({"api_key": "s3cret"}, "x-chroma-token")]
)
def test_headers_and_the_api_key_are_sent_and_never_told(
    proxy: Callable[..., FakeProxy], check: Callable[..., None], settings: dict[str, object], header: str
) -> None:
    server = proxy(401)
    with pytest.raises(FatalError) as refusal:
        check(server.server_port, **settings)
    assert server.headers_seen[0][header] == "s3cret"
    assert "s3cret" not in str(refusal.value)


def test_a_proxy_without_a_server_behind_it_is_tried_as_often_as_set(
    proxy: Callable[..., FakeProxy], check: Callable[..., None]
) -> None:
    server = proxy(503)
    with pytest.raises(TransientError, match="503"):
        check(server.server_port, attempts=3)
    assert len(server.headers_seen) == 3


def test_an_answer_that_is_not_chromas_is_transient(
    proxy: Callable[..., FakeProxy], check: Callable[..., None]
) -> None:
    with pytest.raises(TransientError, match="RERANK_WORKER_RECALL__HOST"):
        check(proxy(200, b"<html>maintenance</html>").server_port)


def test_a_port_that_takes_connections_and_never_answers_is_transient(check: Callable[..., None]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TransientError, match="did not answer in time"),
    ):
        check(silent.getsockname()[1], timeout_s=0.3)


class DrippingServer(ThreadingHTTPServer):
    """Answers Chroma's client well, but for paths with ``dripping`` in them: with a byte now and then, for ever."""

    def __init__(self, dripping: str) -> None:
        self.dripping = dripping
        self.ended = Event()
        super().__init__(("127.0.0.1", 0), _Dripping)


class _Dripping(BaseHTTPRequestHandler):
    server: DrippingServer

    def do_GET(self) -> None:
        identity = b'{"user_id":"","tenant":"default_tenant","databases":["default_database"],"id":"1","name":"x"}'
        if self.path.endswith("identity"):
            identity = b'{"user_id":"","tenant":"default_tenant","databases":["default_database"]}'
        drips = self.server.dripping in self.path
        self.send_response(200)
        self.send_header("Content-Length", str(10_000 if drips else len(identity)))
        self.end_headers()
        if not drips:
            self.wfile.write(identity)
        with suppress(OSError):
            while drips and not self.server.ended.wait(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("dripping", ["collections", "identity", "heartbeat"])
async def test_a_server_that_drips_is_left_when_the_whole_time_is_over(
    check: Callable[..., None], embedder: Embedder, dripping: str
) -> None:
    """Also while the client is made, which asks who it is, without any time limit of its own."""
    server = DrippingServer(dripping)
    serving = Thread(target=server.serve_forever, args=[0.01])
    serving.start()
    settings = RecallSettings(host="127.0.0.1", port=server.server_port, timeout_s=0.2, concurrency=1)
    query = Query(id="q", text="q", collection="documents", top_k=1, top_n=1)
    searches = Searches(partial(ChromaSearch, settings, embedder), settings, on_batch=lambda _: None)
    [vector] = embedder.embed_queries(["q"])
    try:
        async with asyncio.timeout(HANG_S):
            with pytest.raises(TransientError, match=IN_TIME):
                await asyncio.to_thread(check, server.server_port, timeout_s=0.2)
            for _ in range(2):  # The slot that was left has a successor.
                with pytest.raises(TransientError, match=IN_TIME):
                    await searches.find(query, vector, deadline_s=None)
    finally:
        server.ended.set()
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(serving.join, HANG_S)
        server.server_close()
        await searches.close(timeout_s=HANG_S)


def test_nobody_at_the_port_is_transient_and_tells_where_it_looked(check: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransientError, match=rf"127\.0\.0\.1:{port} \(RERANK_WORKER_RECALL__HOST"):
        check(port)


def test_a_folder_that_cannot_be_opened_is_fatal_and_named(tmp_path: Path, check: Callable[..., None]) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FatalError, match="RERANK_WORKER_RECALL__PATH"):
        check(mode="embedded", path=file)


def test_a_folder_that_holds_something_else_is_fatal_and_named(tmp_path: Path, check: Callable[..., None]) -> None:
    (tmp_path / "chroma.sqlite3").write_bytes(b"not a database" * 1000)
    with pytest.raises(FatalError, match="RERANK_WORKER_RECALL__PATH"):
        check(mode="embedded", path=tmp_path)


def test_an_ipv6_address_is_asked_and_shown_in_brackets(check: Callable[..., None]) -> None:
    with pytest.raises(TransientError, match=r"http://\[::1\]:1 .*cannot be reached"):
        check(1, host="::1")


def test_proxy_variables_that_can_not_be_read_are_named(
    check: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # httpx reads an address range as host and port.
    monkeypatch.setenv("NO_PROXY", "fe80::/10")
    with pytest.raises(FatalError, match="NO_PROXY"):
        check(1)
