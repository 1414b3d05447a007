"""The reference page of the metrics says what is exposed."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from worker.telemetry import reference as docs
from worker.telemetry.metrics import Metrics

REPOSITORY = Path(__file__).parents[3]


def test_the_committed_page_is_generated_from_the_metrics() -> None:
    assert (REPOSITORY / docs.PAGE).read_text(encoding="utf-8") == docs.page(), "run: make docs"


def test_every_exposed_metric_is_described_under_the_name_prometheus_sees() -> None:
    metrics = Metrics(CollectorRegistry())
    exposed = re.findall(r"^# HELP (\w+) ", generate_latest(metrics.registry).decode(), re.MULTILINE)
    described = re.findall(r"^\| `(\w+)` \|", docs.page(), re.MULTILINE)
    assert sorted(described) == sorted(name for name in exposed if not name.endswith("_created"))
