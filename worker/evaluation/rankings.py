"""Orders of candidates: as recalled or by a score, of the first so many; what a measure is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worker.domain import Candidate
from worker.evaluation.questions import Question

Found = Mapping[str, Sequence[Candidate]]
"""Candidates in recall order, by question id."""

Ranking = Sequence[str]
"""Ids of documents, best first, each once."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What one reranker made of the candidates."""

    name: str
    scores: Mapping[str, Sequence[float]]
    """By question id, in the candidates' order."""
    pairs: Mapping[str, int] = field(default_factory=dict)
    """Pairs that were scored for a question: more than its candidates where long documents are read in windows."""
    seconds: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """Of reranking one query with so many candidates, one number a query; only what was measured."""


def in_order(candidates: Sequence[Candidate], scores: Sequence[float] | None, top_k: int) -> list[Candidate]:
    """Return the first ``top_k`` candidates by falling score, ties in recall order; ``scores`` None: as recalled.

    A score is its candidate's alone, so that of fewer candidates the order is the same one with the others left out.
    """
    first = list(candidates[:top_k])
    if scores is None:
        return first
    places = sorted(range(len(first)), key=lambda place: -scores[place])
    return [first[place] for place in places]


def ranking(question: Question, ordered: Sequence[Candidate]) -> Ranking:
    """Return the documents of candidates; a document of several chunks stands where its best one does."""
    return list(dict.fromkeys(map(question.document_of, ordered)))


def rankings(questions: Sequence[Question], found: Found, scored: Scored | None, top_k: int) -> list[Ranking]:
    """Return each question's ranking, in the questions' order; ``scored`` None: recall order."""
    orders = [
        in_order(found.get(each.id, ()), None if scored is None else scored.scores.get(each.id, ()), top_k)
        for each in questions
    ]
    return [ranking(question, ordered) for question, ordered in zip(questions, orders, strict=True)]
