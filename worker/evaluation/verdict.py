"""Is reranking worth it here? One sentence, and what to set."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from worker.evaluation.grid import GridRow, best_top_k, best_top_n
from worker.evaluation.measures import PRIMARY
from worker.evaluation.significance import Difference
from worker.evaluation.thresholds import Threshold

SURE = 0.05
"""The p above which chance explains a difference well enough."""

FINEST_P = 0.001
"""What 9,999 resamples can tell apart with some certainty."""

Outcome = Literal["worth it", "not shown", "harmful"]


class Advice(BaseModel):
    """What to set."""

    model_config = ConfigDict(frozen=True)

    top_k: int
    top_n: int
    min_score: float | None
    """None: too few unanswerable questions to say, or no score tells them apart."""


class Verdict(BaseModel):
    """The outcome for one reranker, at the largest `top_k`."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    sentence: str
    advice: Advice


def outcome(difference: Difference) -> Outcome:
    """Judge a difference: the interval and the test must both leave nought out, for either alone errs on few."""
    if difference.p < SURE and difference.low > 0:
        return "worth it"
    if difference.p < SURE and difference.high < 0:
        return "harmful"
    return "not shown"


def verdict(name: str, before: float, rows: Sequence[GridRow], threshold: Threshold | None, questions: int) -> Verdict:
    """Say it. ``before``: what recall order has; ``rows``: the grid, whose last row is judged."""
    last = rows[-1]
    row = best_top_k(rows)
    advice = Advice(
        top_k=row.top_k,
        top_n=best_top_n(row).top_n,
        min_score=None if threshold is None else round(threshold.min_score, 2),
    )
    came = outcome(last.difference)
    change = f"{PRIMARY} from {before:.3f} to {last.value:.3f} ({told(last.difference)})"
    cost = "" if last.mean_ms is None else f", for {last.mean_ms:,.0f} ms a query"
    what = f"{last.top_k} candidates by {name}"
    match came:
        case "worth it":
            said = f"Worth it here: reranking {what} raises {change}{cost}; set {_settings(advice)}."
        case "harmful":
            said = (
                f"Harmful here: reranking {what} lowers {change}{cost}; try another model, "
                "or keep recall's order until one does better."
            )
        case _:
            said = (
                f"Not shown here: reranking {what} takes {change} on {questions} questions{cost}, which may be chance; "
                f"judge more questions or try another model, and until then {_settings(advice)}."
            )
    return Verdict(outcome=came, sentence=said, advice=advice)


def told(difference: Difference) -> str:
    """Return a difference with its interval and p, in words."""
    p = chance(difference)
    said = p.replace("<", "< ") if p.startswith("<") else f"= {p}"
    return f"{difference.mean:+.3f}, 95 % {interval(difference)}, p {said}"


def interval(difference: Difference) -> str:
    """Return the interval: `[+0.012, +0.034]`."""
    return f"[{difference.low:+.3f}, {difference.high:+.3f}]"


def chance(difference: Difference) -> str:
    """Return p as a cell of a table: `0.03`, `<0.001`."""
    return "<0.001" if difference.p < FINEST_P else f"{difference.p:.2g}"


def _settings(advice: Advice) -> str:
    score = "" if advice.min_score is None else f", min_score={advice.min_score:g}"
    return f"top_k={advice.top_k}, top_n={advice.top_n}{score}"
