"""How many candidates to rerank, and how many contexts to keep: what each choice gives and what it costs."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.evaluation.measures import PRIMARY, measured
from worker.evaluation.questions import QuestionSet
from worker.evaluation.rankings import Found, Scored, rankings
from worker.evaluation.significance import Difference, difference

NEARLY_AS_GOOD = 0.005
"""Of nDCG@10: what fewer candidates may lose against the best choice, for they cost less in proportion."""
NEARLY_AS_MANY = 0.02
"""Of the questions: how many fewer may have a relevant context among fewer contexts."""
MS = 1000.0


class Kept(BaseModel):
    """What so many contexts hold."""

    model_config = ConfigDict(frozen=True)

    top_n: int
    ndcg: float
    """nDCG cut there."""
    success: float
    """Share of the answerable questions with a relevant document among them."""
    success_recalled: float
    """The same of recall order."""


class GridRow(BaseModel):
    """What so many candidates give and cost."""

    model_config = ConfigDict(frozen=True)

    top_k: int
    recall: float
    """Share of a question's relevant documents that are among the candidates: no reranker can find the others."""
    value: float
    """nDCG@10 of the reranked candidates."""
    difference: Difference
    """Against recall order, which has the same first ten from ten candidates on."""
    kept: list[Kept]
    pairs: float
    """Scored for a query, on average."""
    mean_ms: float | None
    """Of reranking one query, alone on the machine; None: not measured."""
    p95_ms: float | None
    timed: int
    """Queries that these two come from."""


def grid(
    questions: QuestionSet, found: Found, scored: Scored, top_ks: Sequence[int], top_ns: Sequence[int]
) -> list[GridRow]:
    """Return a row for each number of candidates, fewest first; they were scored once, and each row is a cut."""
    asked = questions.answerable
    whole = measured([PRIMARY], asked, rankings(asked, found, None, max(top_ks)), questions.relevant_from)[PRIMARY]
    return [_row(questions, found, scored, top_k, top_ns, whole) for top_k in sorted(top_ks)]


def _row(
    questions: QuestionSet,
    found: Found,
    scored: Scored,
    top_k: int,
    top_ns: Sequence[int],
    recalled: np.ndarray,
) -> GridRow:
    asked = questions.answerable
    fitting = [top_n for top_n in top_ns if top_n <= top_k]
    success = [f"Success@{top_n}" for top_n in fitting]
    names = [PRIMARY, f"R@{top_k}", *success, *(f"nDCG@{top_n}" for top_n in fitting)]
    after = measured(list(dict.fromkeys(names)), asked, rankings(asked, found, scored, top_k), questions.relevant_from)
    before = measured(success, asked, rankings(asked, found, None, top_k), questions.relevant_from) if success else {}
    seconds = scored.seconds.get(top_k, ())
    return GridRow(
        top_k=top_k,
        recall=float(after[f"R@{top_k}"].mean()),
        value=float(after[PRIMARY].mean()),
        difference=difference(recalled, after[PRIMARY]),
        kept=[
            Kept(
                top_n=top_n,
                ndcg=float(after[f"nDCG@{top_n}"].mean()),
                success=float(after[f"Success@{top_n}"].mean()),
                success_recalled=float(before[f"Success@{top_n}"].mean()),
            )
            for top_n in fitting
        ],
        pairs=_pairs(questions, found, scored, top_k),
        mean_ms=float(np.mean(seconds)) * MS if seconds else None,
        p95_ms=float(np.percentile(seconds, 95)) * MS if seconds else None,
        timed=len(seconds),
    )


def _pairs(questions: QuestionSet, found: Found, scored: Scored, top_k: int) -> float:
    """Return pairs per query; windows of long documents are taken to be spread evenly over the candidates."""
    counts = []
    for question in questions.all:
        recalled = len(found.get(question.id, ()))
        if recalled:
            scored_pairs = scored.pairs.get(question.id, recalled)
            counts.append(min(top_k, recalled) * scored_pairs / recalled)
    return float(np.mean(counts)) if counts else 0.0


def best_top_k(rows: Sequence[GridRow]) -> GridRow:
    """Return the row with the fewest candidates that is nearly as good as the best."""
    best = max(row.value for row in rows)
    return next(row for row in rows if row.value >= best - NEARLY_AS_GOOD)


def best_top_n(row: GridRow) -> Kept:
    """Return the fewest contexts among which nearly as many questions find a relevant document as among the most."""
    most = max(kept.success for kept in row.kept)
    return next(kept for kept in row.kept if kept.success >= most - NEARLY_AS_MANY)
