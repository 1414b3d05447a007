"""Quantiles from a worker's own metrics page."""

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from worker.demo.latencies import quantile, stage_quantiles
from worker.telemetry.metrics import Metrics


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
        thread.join(5)
    assert list(found) == ["recall", "end to end"]
    assert 0.01 < found["recall"][0] <= 0.025
    # Both outcomes count: half are fast.
    assert found["end to end"][0] <= 0.25
    assert 1.0 < found["end to end"][1] <= 2.5
