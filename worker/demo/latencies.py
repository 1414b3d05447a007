"""p50 and p95 per stage, read from a worker's `/metrics` as Prometheus would, and shown as a table."""

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.cli.render import duration

STAGE_METRIC = "rerank_worker_stage_duration_seconds"
END_TO_END_METRIC = "rerank_worker_end_to_end_duration_seconds"
STAGES = ("queue", "recall", "rerank", "answer", "publish")

Buckets = dict[float, float]


def stage_quantiles(metrics_url: str) -> dict[str, tuple[float, float]]:
    """Return (p50, p95) in seconds per stage that was used, and end to end. Blocking; httpx.HTTPError."""
    page = httpx.get(metrics_url, timeout=5.0).raise_for_status().text
    buckets: dict[str, Buckets] = {}
    for family in text_string_to_metric_families(page):
        if family.name not in {STAGE_METRIC, END_TO_END_METRIC}:
            continue
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                row = buckets.setdefault(sample.labels.get("stage", "end to end"), {})
                bound = float(sample.labels["le"])
                row[bound] = row.get(bound, 0.0) + sample.value
    order = (*STAGES, "end to end")
    return {
        stage: (quantile(buckets[stage], 0.5), quantile(buckets[stage], 0.95)) for stage in order if stage in buckets
    }


def latency_table(quantiles: Mapping[str, tuple[float, float]]) -> RenderableType:
    """Return a table of p50 and p95 per stage, given in seconds."""
    table = Table(title="Latency per stage, from the worker's own /metrics", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("stage", min_width=16)
    table.add_column("p50", justify="right", min_width=12)
    table.add_column("p95", justify="right", min_width=12)
    for stage, (p50_s, p95_s) in quantiles.items():
        table.add_row(stage, duration(p50_s), duration(p95_s))
    return Group(table, Text(" Estimated within histogram buckets, as Prometheus does: coarse for few events.", "dim"))


def quantile(buckets: Buckets, share: float) -> float:
    """Estimate a quantile from cumulative bucket counts, as PromQL's histogram_quantile() does."""
    bounds = sorted(buckets)
    rank = share * buckets[bounds[-1]]
    lower = below = 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, buckets[bound]
    return lower
