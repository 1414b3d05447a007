"""From rounds to figures: medians with their spread, ratios taken within a round."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import gemm
from benchmarks.agreement import agreement
from benchmarks.field import Field
from benchmarks.flops import total_flops
from benchmarks.measure import Measured
from benchmarks.peers.base import Contender
from benchmarks.workload import Mix, described


def summarise(found: Field, rounds: Sequence[Sequence[Mix]], config: Any, measured: Measured) -> dict[str, Any]:
    """Return medians with their spread; ratios are to the first contender, round by round."""
    reference = found.contenders[0].name
    by_name = {each.name: [mix for mixes in rounds for mix in mixes if mix.name == each.name] for each in rounds[0]}
    return {
        "reference": reference,
        "skipped": found.skipped,
        "gemm_gflops_per_s": _gemm(measured.gemm),
        "mixes": {
            name: {
                **described(mixes),
                "contenders": {each.name: _row(each, mixes, config, measured, reference) for each in found.contenders},
            }
            for name, mixes in by_name.items()
        },
    }


def _row(contender: Contender, mixes: Sequence[Mix], config: Any, measured: Measured, reference: str) -> dict[str, Any]:
    key, reference_key = (mixes[0].name, contender.name), (mixes[0].name, reference)
    timings, base_s = measured.timings[key], measured.timings[reference_key].seconds
    flops = [total_flops(config, mix.tokens[: mix.together]) for mix in mixes]
    rates = [each / seconds for each, seconds in zip(flops, timings.seconds, strict=True)]
    limits = [gemm.limit(each, contender.precision) for each in measured.gemm]
    return {
        "precision": contender.precision,
        "pairs_per_s": spread([mix.together / each for mix, each in zip(mixes, timings.seconds, strict=True)]),
        "ratio": spread([base / each for base, each in zip(base_s, timings.seconds, strict=True)]),
        "query_alone_ms": spread([each * 1000 for each in timings.alone_s]),
        "useful_gflops_per_s": spread([each / 1e9 for each in rates]),
        "share_of_limit": spread([rate / limit for rate, limit in zip(rates, limits, strict=True) if limit]),
        "padding_share": spread(timings.padded_share),
        "agreement": agreement(measured.scores[reference_key], measured.scores[key]),
    }


def _gemm(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    return {
        precision: {way: spread([each[precision][way] / 1e9 for each in rounds]) for way in ways}
        for precision, ways in rounds[0].items()
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, least and most, with four digits; None of nothing."""
    if not values:
        return None
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def table(result: dict[str, Any]) -> str:
    """Return the figures as text, the mixes one after the other."""
    lines = []
    for name, mix in result["mixes"].items():
        lines.append(
            f"\n{name}: {mix['pairs_at_once']} pairs at once, mean {mix['tokens_mean']} tokens, p95 {mix['tokens_p95']}"
        )
        lines.append(
            f"{'':48} {'pairs/s':>16} {'ratio':>17} {'alone ms':>9} {'of limit':>8} {'padding':>7} {'differs':>8} top 3"
        )
        for contender, row in mix["contenders"].items():
            rate, ratio, share, padding = (
                row[key] for key in ("pairs_per_s", "ratio", "share_of_limit", "padding_share")
            )
            alike = row["agreement"]
            lines.append(
                f"{contender:48} {rate['median']:7.1f} {rate['min']:.0f}-{rate['max']:<5.0f}"
                f" {ratio['median']:5.2f} {ratio['min']:.2f}-{ratio['max']:.2f}"
                f" {row['query_alone_ms']['median']:9.1f} {_percent(share):>8} {_percent(padding):>7}"
                f" {alike['max_difference']:8.1g} {alike['same_top_3']:.0%}"
            )
    rates = [
        f"{kind} {way} {rate['median']:.0f}"
        for kind, ways in result["gemm_gflops_per_s"].items()
        for way, rate in ways.items()
    ]
    return "\n".join([*lines, "", f"matrix products, GFLOP/s: {', '.join(rates)}"])


def _percent(share: dict[str, float] | None) -> str:
    return "" if share is None else f"{share['median']:.0%}"
