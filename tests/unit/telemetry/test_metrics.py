"""The lag that is shown is that of the partitions this process has now."""

import pytest
from prometheus_client import CollectorRegistry

from worker.telemetry.metrics import Metrics

LAG = "rerank_worker_consumer_lag_records"


@pytest.mark.parametrize("left", ["stopping", "stopped", "none"])
def test_a_partition_that_has_left_shows_no_lag(left: str) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    labels = {"topic": "queries", "partition": "0"}

    def report(state: str) -> None:
        partition = {"fetch_state": state, "consumer_lag": 4_864}
        metrics.observe_statistics({"topics": {"queries": {"partitions": {"0": partition}}}})

    report("active")
    assert registry.get_sample_value(LAG, labels) == 4_864
    report(left)
    assert registry.get_sample_value(LAG, labels) is None
