"""A real Prometheus with the repository's configuration and rules, and what the dashboards ask it."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.patience import HANG_S
from worker.local.process import ServerProcess, free_port

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
DASHBOARDS: Sequence[dict[str, Any]] = [
    json.loads(path.read_text(encoding="utf-8")) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
]
# What Grafana puts in where everything is chosen; of a Prometheus that has just begun to look.
VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "1m"}


def need(program: str) -> str:
    """Return where a program of Prometheus is; skip the test where it is not."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt install prometheus)")
    return found


def rules() -> list[dict[str, Any]]:
    """Return every rule, recorded or alerting."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    """Return what the dashboards ask, with everything chosen."""
    asked = {target["expr"] for board in DASHBOARDS for panel in board["panels"] for target in panel["targets"]}
    return sorted(_filled_in(expression) for expression in asked)


def _filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@contextmanager
def prometheus_of(port: int, folder: Path) -> Iterator[httpx.Client]:
    """Yield a client of a Prometheus that scrapes this port each second, with the repository's configuration."""
    program = need("prometheus")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in config["rule_files"]]
    config["scrape_configs"] = config["scrape_configs"][:1]
    config["scrape_configs"][0].pop("dns_sd_configs")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={written}", f"--storage.tsdb.path={folder / 'prometheus'}"]
    with (
        ServerProcess(
            "Prometheus", [*command, f"--web.listen-address={address}"], log_path=folder / "prometheus.log"
        ) as server,
        httpx.Client(base_url=f"http://{address}", timeout=HANG_S) as client,
    ):
        server.await_ready(lambda: _is_ready(client), timeout_s=HANG_S)
        yield client


def ask(prometheus: httpx.Client, expression: str) -> list[Any]:
    """Return the series of an instant query; one that Prometheus does not understand fails."""
    response = prometheus.get("/api/v1/query", params={"query": expression})
    assert response.status_code == httpx.codes.OK, response.text
    result: list[Any] = response.json()["data"]["result"]
    return result


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False
