"""What must be reached, for a build that shall fail when the ranking gets worse: `nDCG@10=0.6`, `gain=0`."""

from collections.abc import Mapping, Sequence

from worker.errors import FatalError
from worker.evaluation.measures import PRIMARY
from worker.evaluation.report import Report

GAIN, SURE_GAIN = "gain", "gain-low"
"""The gain of nDCG@10 over recall order, and the lower end of its interval."""

Bars = Mapping[str, float]
"""The least value of each measure."""


def parse_bars(texts: Sequence[str]) -> Bars:
    """Read `METRIC=VALUE`; FatalError for what is none."""
    bars = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            bars[name.strip()] = float(value)
        except ValueError as error:
            raise FatalError(f"--fail-below {text!r} is not METRIC=VALUE, e.g. {PRIMARY}=0.6") from error
    return bars


def require_known(bars: Bars, measures: Sequence[str]) -> None:
    """Raise FatalError for a name that the report will not have: told before anything is scored."""
    known = [*measures, GAIN, SURE_GAIN]
    for name in bars:
        if name not in known:
            raise FatalError(f"--fail-below knows no {name!r}; what is measured: {', '.join(known)}")


def fallen_below(report: Report, bars: Bars) -> list[str]:
    """Return a line for each bar that the best reranker of the report does not reach."""
    best = report.best
    gain = best.differences[PRIMARY]
    values = {**best.values, GAIN: gain.mean, SURE_GAIN: gain.low}
    return [
        f"{name} is {values[name]:.3f}, below {least:g} ({best.name})"
        for name, least in bars.items()
        if values[name] < least
    ]
