"""The pages operators and probes read."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from tests.patience import HANG_S
from worker.errors import FatalError
from worker.settings import TelemetrySettings
from worker.telemetry.health import Health, PartitionProgress
from worker.telemetry.http import serve


@pytest.fixture
def health() -> Health:
    return Health(starting=None)


@pytest.fixture
def client(health: Health) -> Iterator[httpx.Client]:
    with (
        serve(TelemetrySettings(host="127.0.0.1", port=0), CollectorRegistry(), health) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANG_S, trust_env=False) as client,
    ):
        yield client


def test_ready_says_why_not(client: httpx.Client, health: Health) -> None:
    assert client.get("/ready").json() == {"ready": True}
    health.stopped = lambda: "q-3 has stopped: no topic"
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reason": "q-3 has stopped: no topic"}
    assert client.get("/live").status_code == 200


def test_a_probe_that_gives_up_waiting_leaves_nothing_in_the_log(
    client: httpx.Client, health: Health, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def slow() -> None:
        asked.set()
        gone.wait(HANG_S)

    health.stopped = slow
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as probe:
        probe.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert asked.wait(HANG_S)
        # Closed with a reset, as by a process that was killed: what is written to it fails.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.set()
    for handling in [each for each in threading.enumerate() if "process_request" in each.name]:
        handling.join(HANG_S)
    assert "Traceback" not in capsys.readouterr().err


def test_progress_shows_each_partition(client: httpx.Client, health: Health) -> None:
    assert client.get("/progress").json() == {"partitions": []}
    health.progress = lambda: [
        PartitionProgress("q", 3, 2, 5, 17, time.monotonic() - 60, paused="no topic"),
        PartitionProgress("q", 4, 0, 0, None, None, paused=None),
    ]
    stopped, idle = client.get("/progress").json()["partitions"]
    assert 60 <= stopped.pop("watermark_age_s") < 120
    assert stopped == {
        "topic": "q",
        "partition": 3,
        "in_flight": 2,
        "uncommitted": 5,
        "committed_offset": 17,
        "paused": "no topic",
    }
    assert idle["watermark_age_s"] == 0
    assert idle["committed_offset"] is None


def test_an_unknown_page_is_not_found(client: httpx.Client) -> None:
    assert client.get("/nothing").status_code == 404


def test_a_port_that_is_taken_is_one_clear_line(client: httpx.Client) -> None:
    port = client.base_url.port
    assert port is not None
    with (
        pytest.raises(FatalError, match="RERANK_WORKER_TELEMETRY__PORT"),
        serve(TelemetrySettings(host="127.0.0.1", port=port), CollectorRegistry(), Health()),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "asked"),
    [("::", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost"), ("", "127.0.0.1")],
)
def test_it_serves_on_either_version_of_the_internets_addresses(health: Health, host: str, asked: str) -> None:
    if "::" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with serve(TelemetrySettings(host=host, port=0), CollectorRegistry(), health) as port:
        assert httpx.get(f"http://{asked}:{port}/live", timeout=HANG_S, trust_env=False).json() == {"live": True}


def test_a_host_that_nobody_knows_is_one_clear_line(health: Health) -> None:
    with (
        pytest.raises(FatalError, match=r"nowhere\.invalid"),
        serve(TelemetrySettings(host="nowhere.invalid", port=0), CollectorRegistry(), health),
    ):
        pass


def test_the_root_lists_the_pages(client: httpx.Client) -> None:
    assert client.get("/").text.split() == ["/metrics", "/live", "/ready", "/progress"]
