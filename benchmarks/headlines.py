"""The README's six figures: what each results file says in one row. ``benchmarks.table`` writes them there.

Good ones and bad ones: what missed its target stands among them.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.queueing import P99_LOAD, P99_TARGET

Headline = Callable[[dict[str, Any]], tuple[str, str]]


def scoring(result: dict[str, Any]) -> tuple[str, str]:
    """Return the packed backend's rate on medium passages, beside its nearest peer's."""
    contenders = result["mixes"]["medium"]["contenders"]
    ours, peer = contenders["ours, torch float32"], contenders["infinity, torch engine, over HTTP"]
    return (
        f"scoring medium passages, against `{result['reference']}` (infinity over HTTP: {peer['ratio']['median']:.2f})",
        f"{ours['ratio']['median']:.2f} times, {ours['share_of_limit']['median']:.0%} of the machine's matrix rate",
    )


def capacity(result: dict[str, Any]) -> tuple[str, str]:
    """Return what is left of the bare scorer's throughput."""
    backlog = result["backlog"]
    # Older figures know the bare scorer beside an idle broker alone.
    ratio, beside = (
        (backlog["ratio_shared"], " beside as busy a broker") if "ratio_shared" in backlog else (backlog["ratio"], "")
    )
    return (
        f"Kafka → worker → Kafka at a backlog, against the bare scorer{beside}; target {backlog['target']}",
        f"{ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f})",
    )


def latency(result: dict[str, Any]) -> tuple[str, str]:
    """Return the tail under load, beside what queueing alone costs."""
    [row] = [row for row in result["open_loop"] if row["load"] == P99_LOAD]
    took_ms, ideal_ms = row["latency_ms"]["p99"], row["ideal_ms"]["p99"]
    what = f"p99 from Kafka to Kafka at {row['load']:.0%} of capacity, against ideal queueing ({ideal_ms:,.0f} ms)"
    return f"{what}; target {P99_TARGET}", f"{took_ms:,.0f} ms, {took_ms / ideal_ms:.2f} times"


def scaling(result: dict[str, Any]) -> tuple[str, str]:
    """Return the efficiency of the most consumers."""
    count, row = max(result["consumers"].items(), key=lambda each: int(each[0]))
    return f"efficiency of {count} consumers, with simulated accelerators", f"{row['efficiency']['median']:.2f}"


def memory(result: dict[str, Any]) -> tuple[str, str]:
    """Return how much a worker grows."""
    first, last = result["warm_up_events"], result["events"]
    return (
        f"memory between the {first:,}th and the {last:,}th event, with a simulated scorer",
        f"{result['growth']:+.2%}",
    )


def chaos(result: dict[str, Any]) -> tuple[str, str]:
    """Return what a random schedule of faults cost."""
    return (
        f"{result['events']:,} events, at least once, under {result['faults']:,} random faults",
        f"{result['lost']:,} lost, {result['committed_early']:,} committed early, {result['repeats']:,} repeated",
    )


# File in results and what the README says of it, in the README's order.
HEADLINES: tuple[tuple[str, Headline], ...] = (
    ("scoring.json", scoring),
    ("end_to_end.json", capacity),
    ("end_to_end.json", latency),
    ("scaling.json", scaling),
    ("memory.json", memory),
    ("chaos-soak.json", chaos),
)
