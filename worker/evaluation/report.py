"""The outcome of an evaluation as data: what the terminal, the page and `--json` show, and how it is put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.evaluation.grid import GridRow, grid
from worker.evaluation.judge import Judged
from worker.evaluation.measures import PRIMARY, Values, measured
from worker.evaluation.questions import QuestionSet
from worker.evaluation.rankings import Found, Scored, rankings
from worker.evaluation.significance import EQUAL, Difference, difference
from worker.evaluation.thresholds import Threshold, curve, suggested
from worker.evaluation.verdict import Verdict, verdict

JUDGED = "Judged@10"
MOSTLY_JUDGED = 0.9
"""Of the first ten: below it the unjudged ones may well decide."""
SHOWN_QUESTIONS = 5
"""Of those that gained most, and of those that lost most."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Change(_Model):
    """What reranking did to one question."""

    id: str
    text: str
    before: float
    after: float


class Ordering(_Model):
    """One order of the candidates, measured on the answerable questions, at the largest `top_k`."""

    name: str
    values: Mapping[str, float]
    """Means by measure."""


class Reranked(Ordering):
    """What one reranker made of recall order."""

    differences: Mapping[str, Difference]
    """Against recall order, by measure."""
    against_first: Difference | None
    """nDCG@10 against the first reranker's; None for that one."""
    grid: list[GridRow]
    curve: list[Threshold]
    changes: list[Change]
    """nDCG@10 of every answerable question, the largest loss first."""
    verdict: Verdict

    @property
    def worst(self) -> list[Change]:
        """The questions that lost most."""
        return [each for each in self.changes if each.after < each.before - EQUAL][:SHOWN_QUESTIONS]

    @property
    def best(self) -> list[Change]:
        """The questions that gained most, the largest gain first."""
        return [each for each in reversed(self.changes) if each.after > each.before + EQUAL][:SHOWN_QUESTIONS]


class Report(_Model):
    """A whole evaluation."""

    source: str
    """Where the candidates come from."""
    answerable: int
    """Questions with a relevant document: what is measured on."""
    unanswerable: int
    """Questions that were judged and have none."""
    relevant_from: int
    top_k: int
    """The largest number of candidates, at which orders are compared."""
    top_n: int
    """Contexts of a query, for the curve of `min_score`."""
    measures: list[str]
    recall: Ordering
    reranked: list[Reranked]
    warnings: list[str]
    judge: Judged | None = None
    """What an LLM said of a sample, if it was asked."""

    @property
    def best(self) -> Reranked:
        """The reranker with the highest nDCG@10: what the last sentence is about."""
        return max(self.reranked, key=lambda each: each.values[PRIMARY])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is looked at."""

    top_ks: Sequence[int]
    top_ns: Sequence[int]
    top_n: int

    @property
    def top_k(self) -> int:
        """The largest number of candidates: what is recalled, and scored once."""
        return max(self.top_ks)

    @property
    def measures(self) -> list[str]:
        """The measures of the first table."""
        precision = list(dict.fromkeys([f"P@{self.top_n}", "P@10"]))
        return [PRIMARY, "RR@10", *precision, f"Success@{self.top_n}", "R@10"]


def make_report(
    source: str, questions: QuestionSet, found: Found, scored: Sequence[Scored], plan: Plan, warnings: Sequence[str]
) -> Report:
    """Put the report together; blocks for a second per reranker, longer with thousands of questions."""
    names = plan.measures
    asked = questions.answerable
    recalled = measured(
        [*names, JUDGED, f"R@{plan.top_k}"], asked, rankings(asked, found, None, plan.top_k), questions.relevant_from
    )
    reranked: list[Reranked] = []
    first: Values | None = None
    for each in scored:
        after = measured([*names, JUDGED], asked, rankings(asked, found, each, plan.top_k), questions.relevant_from)
        reranked.append(_reranked(questions, found, each, plan, recalled, after, first))
        first = after[PRIMARY] if first is None else first
    recall = Ordering(name="recall order", values=_means(recalled))
    return Report(
        source=source,
        answerable=len(asked),
        unanswerable=len(questions.unanswerable),
        relevant_from=questions.relevant_from,
        top_k=plan.top_k,
        top_n=plan.top_n,
        measures=names,
        recall=recall,
        reranked=reranked,
        warnings=[*warnings, *_judged_warnings(questions, [recall, *reranked])],
    )


def _reranked(
    questions: QuestionSet,
    found: Found,
    scored: Scored,
    plan: Plan,
    before: Mapping[str, Values],
    after: Mapping[str, Values],
    first: Values | None,
) -> Reranked:
    rows = grid(questions, found, scored, plan.top_ks, plan.top_ns)
    thresholds = curve(questions, scored, plan.top_k, plan.top_n)
    changes = [
        Change(id=question.id, text=question.text, before=float(old), after=float(new))
        for question, old, new in zip(questions.answerable, before[PRIMARY], after[PRIMARY], strict=True)
    ]
    means = _means(after)
    return Reranked(
        name=scored.name,
        values=means,
        differences={name: difference(before[name], after[name]) for name in plan.measures},
        against_first=None if first is None else difference(first, after[PRIMARY]),
        grid=rows,
        curve=thresholds,
        changes=sorted(changes, key=lambda each: each.after - each.before),
        verdict=verdict(
            scored.name,
            float(before[PRIMARY].mean()),
            rows,
            suggested(questions, thresholds),
            len(questions.answerable),
        ),
    )


def _means(values: Mapping[str, Values]) -> dict[str, float]:
    return {name: float(np.mean(each)) for name, each in values.items()}


def _judged_warnings(questions: QuestionSet, orders: Sequence[Ordering]) -> list[str]:
    """Say what unjudged documents may do to the figures."""
    least = min(order.values[JUDGED] for order in orders)
    if least >= MOSTLY_JUDGED:
        return []
    recalled, *others = (f"{order.values[JUDGED]:.0%}" for order in orders)
    shares = f"of recall order's {recalled}, reranked {', '.join(dict.fromkeys(others))}"
    grades = [grade for question in questions.answerable for grade in question.grades.values()]
    if all(grade >= questions.relevant_from for grade in grades):
        warning = (
            f"The judgements list relevant documents alone ({shares} of the first ten "
            "are listed): whatever is not listed counts as not relevant."
        )
    else:
        warning = (
            f"Not all of the first ten are judged ({shares}), and the unjudged count as not relevant: judgements "
            "pooled from older rankings flatter those, so judge what is new before you trust a small difference."
        )
    return [warning]
