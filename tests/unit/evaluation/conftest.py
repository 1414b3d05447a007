"""Questions, candidates and reports small enough to be checked by hand."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from worker.domain import Candidate
from worker.evaluation.judge import Disagreement, Judged
from worker.evaluation.questions import Question, QuestionSet
from worker.evaluation.rankings import Scored
from worker.evaluation.report import Plan, Report, make_report

Reported = Callable[..., Report]


def candidates(*identifiers: str) -> list[Candidate]:
    """Candidates in that order, each with its id as text."""
    return [Candidate(identifier, identifier, rank, distance=0.0) for rank, identifier in enumerate(identifiers, 1)]


JUDGED = Judged(
    model="tiny-llm",
    compared=20,
    agreed=0.85,
    kappa=0.7,
    gaps=9,
    gaps_relevant=4,
    unread=1,
    disagreements=[Disagreement(question="<why>?", document_id="d7", text="because", given=0, judged=3)],
)


@pytest.fixture(scope="session")
def reported() -> Reported:
    """Makes a report of 24 questions with an answer at a random rank of 12, and 8 without.

    ``skill`` is what the score of the answer has over the others': 0 ranks at random, -9 last.
    """

    @cache
    def made(skills: tuple[float, ...], timed: bool, pooled: bool) -> Report:
        random = np.random.default_rng(3)
        names = [f"d{number}" for number in range(12)]
        others = {"d0": 0} if pooled else {}
        answerable = [
            Question(f"q{number}", f"question <{number}>", {f"d{random.integers(1, 12)}": 1, **others})
            for number in range(24)
        ]
        unanswerable = [Question(f"u{number}", "nobody knows", {"d0": 0}) for number in range(8)]
        questions = QuestionSet(answerable, unanswerable, 0, 0)
        found = {each.id: candidates(*names) for each in questions.all}
        scored = [
            Scored(
                f"model-{number}",
                {
                    each.id: [random.normal() + skill * (each.grades.get(name, 0) > 0) for name in names]
                    for each in questions.all
                },
                seconds={6: [0.01] * 20, 12: [0.02] * 32} if timed else {},
            )
            for number, skill in enumerate(skills)
        ]
        return make_report("a test", questions, found, scored, Plan([6, 12], [1, 3], top_n=3), ["a note"])

    return lambda skills=(9.0,), *, timed=True, pooled=False: made(tuple(skills), timed, pooled)
