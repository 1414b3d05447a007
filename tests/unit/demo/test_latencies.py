"""Quantiles from a worker's own metrics page, and their table."""

import io

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console

from tests.patience import HANG_S
from worker.demo.latencies import latency_table, quantile, stage_quantiles
from worker.telemetry.metrics import Metrics


def line_of(text: str, part: str) -> str:
    [line] = [line for line in text.splitlines() if part in line]
    return line


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = {0.1: 50.0, 0.2: 90.0, 0.5: 100.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.1)
    assert quantile(buckets, 0.7) == pytest.approx(0.15)


def test_beyond_the_last_bound_nothing_is_known_but_that_bound() -> None:
    assert quantile({0.1: 0.0, float("inf"): 5.0}, 0.95) == pytest.approx(0.1)


def test_every_stage_that_was_used_is_read_from_the_page_and_no_other() -> None:
    metrics = Metrics(CollectorRegistry())
    for _ in range(10):
        metrics.stage_seconds.labels("recall").observe(0.02)
        metrics.end_to_end_seconds.labels("ok").observe(2.0)
        metrics.end_to_end_seconds.labels("no_context").observe(0.2)
    server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
    try:
        found = stage_quantiles(f"http://127.0.0.1:{server.server_port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(HANG_S)
    assert list(found) == ["recall", "end to end"]
    assert 0.01 < found["recall"][0] <= 0.025
    # Both outcomes count: half are fast.
    assert found["end to end"][0] <= 0.25
    assert 1.0 < found["end to end"][1] <= 2.5


def test_latencies_are_in_a_readable_unit() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(latency_table({"recall": (0.0042, 0.51), "answer": (2.5, 61.0)}))
    text = console.export_text()
    assert line_of(text, "recall").split() == ["recall", "4.2", "ms", "510", "ms"]
    assert line_of(text, "answer").split() == ["answer", "2.50", "s", "61.00", "s"]
