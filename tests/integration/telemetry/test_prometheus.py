"""A real Prometheus scrapes the worker's page and answers a query about it."""

import shutil
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from tests.patience import HANG_S
from worker.local.process import ServerProcess, await_condition, free_port
from worker.settings import TelemetrySettings
from worker.telemetry.health import Health
from worker.telemetry.http import serve
from worker.telemetry.metrics import Metrics

pytestmark = pytest.mark.slow

CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: rerank-worker
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def test_prometheus_scrapes_and_answers(tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("no prometheus here (Debian: apt install prometheus)")
    metrics = Metrics(CollectorRegistry())
    metrics.observe_dead_letter("invalid_json")
    health = Health(starting=None)
    with serve(TelemetrySettings(host="127.0.0.1", port=0), metrics.registry, health) as port:
        config = tmp_path / "prometheus.yml"
        config.write_text(CONFIG.format(port=port))
        address = f"127.0.0.1:{free_port()}"
        command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        with ServerProcess(
            "Prometheus", [*command, f"--web.listen-address={address}"], log_path=tmp_path / "log"
        ) as server:
            server.await_ready(lambda: answers(f"http://{address}/-/ready"), timeout_s=HANG_S)
            query = {"query": 'rerank_worker_dead_letters_total{reason="invalid_json"}'}

            def value() -> str | None:
                found = httpx.get(f"http://{address}/api/v1/query", params=query).json()["data"]["result"]
                return found[0]["value"][1] if found else None

            assert await_condition(lambda: value() == "1", timeout_s=HANG_S)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.TransportError:
        return False
