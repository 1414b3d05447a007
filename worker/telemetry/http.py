"""``/metrics``, ``/live``, ``/ready`` and ``/progress`` on one port of their own."""

import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.errors import FatalError
from worker.settings import TelemetrySettings
from worker.telemetry.health import Health

logger = structlog.get_logger()

# A scraper that stops reading must not hold its thread for ever.
REQUEST_TIMEOUT_S = 10
JOIN_TIMEOUT_S = 5.0
# How late it may be seen that the server is to end; the default of half a second would be most of a quick shutdown.
LOOK_S = 0.05
PAGES = ("/metrics", "/live", "/ready", "/progress")


@contextmanager
def serve(settings: TelemetrySettings, registry: CollectorRegistry, health: Health) -> Iterator[int]:
    """Serve on threads of its own while the context is open; yields the port. FatalError if it is taken."""

    class Handler(_Handler):
        pages = _pages(registry, health)

    try:
        server = _Server((settings.host, settings.port), Handler)
    except OSError as error:
        raise FatalError(
            f"port {settings.port} of {settings.host} can't be opened for metrics and health ({error.strerror}); "
            "set RERANK_WORKER_TELEMETRY__PORT, or 0 for a free one"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,), name="telemetry-http", daemon=True)
    thread.start()
    port = server.server_address[1]
    logger.info("telemetry is served", port=port, pages=PAGES)
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(JOIN_TIMEOUT_S)


class _Server(ThreadingHTTPServer):
    """On IPv4 or IPv6, as the address says; `::` serves both where the system allows."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        # The base class takes IPv4 for granted.
        found = socket.getaddrinfo(address[0] or None, address[1], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's, which asks a name server for the name of this host.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's
        # The base class prints a stack, between the lines of the log. A probe that gave up waiting is no news.
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            logger.error("a telemetry page failed", exc_info=error)


_Page = Callable[[str], tuple[HTTPStatus, str, bytes]]


def _pages(registry: CollectorRegistry, health: Health) -> dict[str, _Page]:
    def metrics(accept: str) -> tuple[HTTPStatus, str, bytes]:
        encode, content_type = choose_encoder(accept)
        return HTTPStatus.OK, content_type, encode(registry)

    return {
        "/": lambda _: (HTTPStatus.OK, "text/plain; charset=utf-8", "\n".join([*PAGES, ""]).encode()),
        "/metrics": metrics,
        "/live": lambda _: _state("live", health.why_not_live()),
        "/ready": lambda _: _state("ready", health.why_not_ready()),
        "/progress": lambda _: _json(HTTPStatus.OK, {"partitions": [p.as_json() for p in health.progress()]}),
    }


def _state(name: str, why_not: str | None) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.OK if why_not is None else HTTPStatus.SERVICE_UNAVAILABLE
    body = {name: why_not is None} | ({} if why_not is None else {"reason": why_not})
    return _json(status, body)


def _json(status: HTTPStatus, body: object) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    pages: dict[str, _Page]
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        status, content_type, body = page(self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay silent: a probe every few seconds is no news."""
