"""What is shipped for those who watch: dashboards and rules ask for what there is, alerts fire when they should."""

import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

import schemas
from tests.patience import HANG_S
from tests.prometheus import DASHBOARDS, DEPLOY, RULES, ask, dashboard_expressions, need, prometheus_of, rules
from worker.local.process import await_condition
from worker.settings import TelemetrySettings
from worker.telemetry.health import Health
from worker.telemetry.http import serve
from worker.telemetry.metrics import PREFIX, Metrics

EXAMPLES = Path(schemas.__file__).parent / "examples"
RUNBOOKS = DEPLOY.parent / "docs/runbooks"
ALERT_CASES = DEPLOY / "prometheus/tests/alerts.yml"
PANELS = [panel for board in DASHBOARDS for panel in board["panels"]]


@pytest.fixture
def metrics() -> Metrics:
    """A worker that has seen one of everything."""
    metrics = Metrics(CollectorRegistry(), group="askers")
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
def exposed(metrics: Metrics) -> set[str]:
    """The names of all samples, and of rules that record."""
    page = generate_latest(metrics.registry).decode()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return set(re.findall(rf"^({PREFIX}_\w+)", page, re.MULTILINE)) | recorded


def asked_for(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(rf"[\w:]*{PREFIX}_[\w:]+", expression)}


def promtool(*arguments: str, given: bytes = b"") -> None:
    done = subprocess.run([need("promtool"), *arguments], input=given, capture_output=True, check=False, timeout=HANG_S)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_dashboards_ask_for_existing_metrics_only(exposed: set[str]) -> None:
    asked = asked_for(dashboard_expressions())
    assert asked
    assert asked <= exposed


def test_the_rules_ask_for_existing_metrics_only(exposed: set[str]) -> None:
    assert asked_for([rule["expr"] for rule in rules()]) <= exposed


def test_every_metric_is_on_a_dashboard(metrics: Metrics) -> None:
    families = {family.name for family in metrics.registry.collect()}
    on_boards = asked_for(dashboard_expressions()) | asked_for([rule["expr"] for rule in rules()])
    unseen = {name for name in families if not any(each.startswith(name) for each in on_boards)}
    assert unseen == set()


def test_the_dashboards_read_from_the_provisioned_datasource() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    known = {source["uid"] for source in provisioned["datasources"]}
    variables = [variable for board in DASHBOARDS for variable in board["templating"]["list"]]
    assert {part["datasource"]["uid"] for part in (*PANELS, *variables)} <= known


def test_panels_say_what_they_show_have_a_unit_and_do_not_overlap() -> None:
    for board in DASHBOARDS:
        cells: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["description"] or panel["type"] == "table", panel["title"]
            at = panel["gridPos"]
            own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not own & cells, panel["title"]
            cells |= own


def test_panels_name_runbooks_that_are_there() -> None:
    named = {
        name.strip(" ,.")
        for panel in PANELS
        for names in re.findall(r"[Rr]unbooks?:? ((?:[a-z-]+(?:, )?)+)", panel["description"])
        for name in names.split(", ")
    }
    assert named
    assert named <= {path.stem for path in RUNBOOKS.glob("*.md")}


def test_prometheus_accepts_the_configuration_and_its_rules() -> None:
    promtool("check", "config", str(DEPLOY / "prometheus/prometheus.yml"))
    promtool("check", "rules", *map(str, RULES))


def test_each_alert_has_a_case_that_fires_it_and_a_runbook() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    cases = yaml.safe_load(ALERT_CASES.read_text(encoding="utf-8"))["tests"]
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
    promtool("test", "rules", str(ALERT_CASES))


def test_the_metrics_follow_prometheus_conventions(metrics: Metrics) -> None:
    promtool("check", "metrics", given=generate_latest(metrics.registry))


@pytest.mark.slow
def test_a_real_prometheus_evaluates_every_rule(metrics: Metrics, tmp_path: Path) -> None:
    def loaded(prometheus: httpx.Client) -> list[dict[str, Any]]:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def evaluated() -> bool:
        found = loaded(prometheus)
        return len(found) == len(rules()) and all(rule["health"] != "unknown" for rule in found)

    with (
        serve(TelemetrySettings(host="127.0.0.1", port=0), metrics.registry, Health(starting=None)) as port,
        prometheus_of(port, tmp_path) as prometheus,
    ):
        assert await_condition(evaluated, timeout_s=HANG_S)
        assert [rule["name"] for rule in loaded(prometheus) if rule["health"] != "ok"] == []
        assert await_condition(lambda: bool(ask(prometheus, "up == 1")), timeout_s=HANG_S)
