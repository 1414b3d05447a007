"""What reranking gained on the sample questions, in one line: measured on what the demo's worker answered. Short."""

from collections.abc import Sequence

from schemas.events import AnswerEvent
from worker.documents.samples.corpus import Question
from worker.errors import FatalError
from worker.evaluation import questions as judged
from worker.evaluation.answered import as_answered, candidates_of, matched
from worker.evaluation.measures import PRIMARY, measured, require
from worker.evaluation.rankings import rankings
from worker.evaluation.readers.candidates import recorded
from worker.evaluation.readers.lines import Line
from worker.evaluation.significance import difference
from worker.evaluation.verdict import outcome, told


def gain(asked: Sequence[Question], answers: Sequence[AnswerEvent]) -> str:
    """Return the verdict: nDCG@10 of recall order and of the reranked one, and the difference with its interval.

    ``answers`` carry their candidates, under the questions' ids. FatalError if what measures is not installed.
    """
    require("ir_measures", "scipy")
    lines = [Line(answer.model_dump_json(), answer.query_id) for answer in answers]
    known = [judged.Question(each.id, each.text, each.relevant) for each in asked if each.relevant]
    questions, records = matched(recorded(lines, "the answers", once=True), known)
    found, scored = candidates_of(records), as_answered(records)
    if scored is None:
        raise FatalError("not every answer was reranked")
    top_k = max(len(each.candidates) for each in records)
    before, after = (
        measured([PRIMARY], questions, rankings(questions, found, by, top_k), 1)[PRIMARY] for by in (None, scored)
    )
    change = difference(before, after)
    return (
        f"{outcome(change).capitalize()} here: {PRIMARY} on {len(questions)} sample questions is {before.mean():.3f} "
        f"as recalled and {after.mean():.3f} reranked ({told(change)})"
    )
