"""Questions whose answers are known: what is asked, and which documents were judged to answer it, how well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worker.domain import Candidate
from worker.errors import FatalError

FEWEST_ANSWERABLE = 2
"""With one question there is no spread, so no interval either."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its judgements."""

    id: str
    text: str
    grades: Mapping[str, int] = field(default_factory=dict)
    """By document id: 0 and below is judged and not relevant; a document that is not here was never judged."""

    def is_answerable(self, relevant_from: int) -> bool:
        """Whether a document of that grade or a better one is known."""
        return any(grade >= relevant_from for grade in self.grades.values())

    def document_of(self, candidate: Candidate) -> str:
        """Return the id that judgements know a candidate by: a chunk's document, unless the chunk itself was judged."""
        identifier = candidate.document_id
        if identifier in self.grades or "chunk" not in candidate.metadata:
            return identifier
        return identifier.removesuffix(f"#{candidate.metadata['chunk']}")


Judgements = Mapping[str, Mapping[str, int]]
"""Grades by question id, then by document id."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The questions that can be evaluated."""

    answerable: Sequence[Question]
    """Those with a relevant document: what rankings are measured on."""
    unanswerable: Sequence[Question]
    """Judged, and no document is relevant: they shall be refused."""
    unjudged: int
    """Questions without any judgement: left out, for nothing is known of them."""
    unasked: int
    """Questions that were judged and have no text here: left out."""
    relevant_from: int = 1
    """The lowest grade that counts as relevant."""

    @property
    def all(self) -> Sequence[Question]:
        """Every question that is asked, the answerable ones first."""
        return [*self.answerable, *self.unanswerable]


def question_set(
    questions: Sequence[Question], judgements: Judgements | None, *, relevant_from: int = 1
) -> QuestionSet:
    """Join questions and judgements; ``judgements`` None: the questions brought their own.

    FatalError if fewer than two questions have a relevant document: nothing can be compared on them.
    """
    if judgements is None:
        judged, unjudged, unasked = list(questions), 0, 0
    else:
        judged = [Question(each.id, each.text, judgements[each.id]) for each in questions if each.id in judgements]
        unjudged = len(questions) - len(judged)
        unasked = len(judgements.keys() - {each.id for each in questions})
    answerable = [each for each in judged if each.is_answerable(relevant_from)]
    if len(answerable) < FEWEST_ANSWERABLE:
        told = f"{len(answerable)} of {len(questions)} questions have a document judged {relevant_from} or better"
        examples = _examples(questions, judgements) if judgements and not judged else ""
        raise FatalError(f"{told}; {FEWEST_ANSWERABLE} at least are needed{examples}")
    unanswerable = [each for each in judged if not each.is_answerable(relevant_from)]
    return QuestionSet(answerable, unanswerable, unjudged, unasked, relevant_from)


def _examples(questions: Sequence[Question], judgements: Judgements) -> str:
    asked = ", ".join(repr(each.id) for each in questions[:3])
    judged = ", ".join(map(repr, list(judgements)[:3]))
    return f": no id is in both files (questions: {asked}; judgements: {judged})"
