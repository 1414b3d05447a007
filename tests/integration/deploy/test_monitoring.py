"""A real Prometheus scrapes the worker's metrics, answers every question the dashboard asks, and takes every rule."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

import schemas
from tests.patience import HANG_S
from worker.local.process import await_condition, free_port
from worker.settings import TelemetrySettings
from worker.telemetry.health import Health
from worker.telemetry.http import serve
from worker.telemetry.metrics import PREFIX, Metrics

DEPLOY = Path(__file__).parents[3] / "deploy"
EXAMPLES = Path(schemas.__file__).parent / "examples"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/rerank-worker.json").read_text(encoding="utf-8"))
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
RUNBOOKS = DEPLOY.parent / "docs/runbooks"
EXPRESSIONS = sorted(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])

ANSWERED_WITHIN_S = 60.0


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt install prometheus)")
    return found


@pytest.fixture
def metrics() -> Metrics:
    """A worker that has seen one of everything."""
    metrics = Metrics(CollectorRegistry())
    for example in ("ok", "degraded-answer"):
        answer = schemas.decode_answer((EXAMPLES / f"answer-event.{example}.json").read_bytes())
        metrics.observe_answer(answer, publish_s=0.01, end_to_end_s=0.8)
    metrics.observe_batch("rerank", items=20, cost=1_900, padded_cost=2_200, seconds=0.05, wait_s=0.002, budget=2_048)
    metrics.observe_dead_letter("invalid_json")
    partition = {"fetch_state": "active", "consumer_lag": 3}
    metrics.observe_statistics({"topics": {"rag.queries": {"partitions": {"0": partition}}}})
    metrics.rebalances.labels(kind="assigned").inc()
    return metrics


@pytest.fixture
def prometheus(metrics: Metrics, tmp_path: Path) -> Iterator[httpx.Client]:
    """A Prometheus of our own with the configuration of the repository, but for the place of the worker."""
    program = need("prometheus")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    with serve(TelemetrySettings(host="127.0.0.1", port=0), metrics.registry, Health(starting=None)) as port:
        config["global"]["scrape_interval"] = "1s"
        config["global"]["evaluation_interval"] = "1s"
        config["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in config["rule_files"]]
        config["scrape_configs"][0].pop("dns_sd_configs")
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=5) as client:
                yield client
        finally:
            process.terminate()
            process.wait(timeout=HANG_S)


def ask(prometheus: httpx.Client, expression: str) -> list[Any]:
    """Ask once; an expression that Prometheus does not understand fails at once."""
    try:
        response = prometheus.get("/api/v1/query", params={"query": expression})
    except httpx.TransportError:
        return []  # not up yet
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return []
    assert response.status_code == httpx.codes.OK, response.text
    result: list[Any] = response.json()["data"]["result"]
    return result


def test_the_dashboard_asks_for_existing_metrics_only(metrics: Metrics) -> None:
    exposed = set(re.findall(rf"^({PREFIX}_\w+)", generate_latest(metrics.registry).decode(), re.MULTILINE))
    asked = {name for expression in EXPRESSIONS for name in re.findall(rf"{PREFIX}_\w+", expression)}
    assert asked
    assert asked <= exposed


def test_the_dashboard_reads_from_the_provisioned_datasource() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    known = {source["uid"] for source in provisioned["datasources"]}
    asked = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert asked <= known


def test_panels_have_a_unit_and_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["fieldConfig"]["defaults"]["unit"]
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


def test_prometheus_accepts_the_configuration() -> None:
    done = subprocess.run(
        [need("promtool"), "check", "config", str(DEPLOY / "prometheus/prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def test_the_rules_ask_for_existing_metrics_only(metrics: Metrics) -> None:
    exposed = set(re.findall(rf"^({PREFIX}_\w+)", generate_latest(metrics.registry).decode(), re.MULTILINE))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for rule in rules() for name in re.findall(rf"[\w:]*{PREFIX}_[\w:]+", rule["expr"])}
    assert asked <= exposed | recorded


def test_each_alert_has_a_case_that_fires_it_and_a_runbook() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    cases = yaml.safe_load((DEPLOY / "prometheus/tests/alerts.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in cases for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert fired == set(alerts)
    pages = {Path(rule["annotations"]["runbook"]).name for rule in alerts.values()}
    assert pages == {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for name, rule in alerts.items():
        [line] = [line for line in index.splitlines() if line.startswith(f"| {name} |")]
        assert rule["labels"]["severity"] in line
        assert Path(rule["annotations"]["runbook"]).name in line


def test_the_alerts_fire_when_they_should_and_not_else() -> None:
    done = subprocess.run(
        [need("promtool"), "test", "rules", str(DEPLOY / "prometheus/tests/alerts.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_metrics_follow_prometheus_conventions(metrics: Metrics) -> None:
    done = subprocess.run(
        [need("promtool"), "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_a_real_prometheus_answers_every_expression_of_the_dashboard(prometheus: httpx.Client) -> None:
    unanswered = set(EXPRESSIONS)

    def answered() -> bool:
        unanswered.difference_update([expression for expression in unanswered if ask(prometheus, expression)])
        return not unanswered

    await_condition(answered, timeout_s=ANSWERED_WITHIN_S)
    assert not unanswered


@pytest.mark.slow
def test_a_real_prometheus_evaluates_every_rule(prometheus: httpx.Client) -> None:
    def loaded() -> list[dict[str, Any]]:
        try:
            groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        except (httpx.TransportError, ValueError):
            return []  # not up yet
        return [rule for group in groups for rule in group["rules"]]

    def evaluated() -> bool:
        found = loaded()
        return len(found) == len(rules()) and all(rule["health"] != "unknown" for rule in found)

    assert await_condition(evaluated, timeout_s=ANSWERED_WITHIN_S)
    assert [rule["name"] for rule in loaded() if rule["health"] != "ok"] == []
