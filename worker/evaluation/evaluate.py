"""The whole of an evaluation: from the files a user names to the report."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import FatalError
from worker.evaluation.answered import as_answered, candidates_of, matched, read_answers
from worker.evaluation.bars import Bars, require_known
from worker.evaluation.judge import judge, require_llm
from worker.evaluation.measures import require
from worker.evaluation.questions import Question, QuestionSet, question_set
from worker.evaluation.rankings import Found, Scored
from worker.evaluation.readers.candidates import Recorded, read_candidates
from worker.evaluation.readers.qrels import read_qrels
from worker.evaluation.readers.queries import read_questions
from worker.evaluation.recalling import Watch, indexed, recall
from worker.evaluation.report import Plan, Report, make_report
from worker.evaluation.reranking import score
from worker.evaluation.subjects import subjects
from worker.settings import Settings

TOP_KS = (5, 10, 20, 50)
TOP_NS = (1, 3, 5, 10)
"""What is tried besides the settings in force."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for; what is empty or None is left to the settings."""

    queries: Path | None = None
    qrels: Path | None = None
    corpus: Sequence[Path] = ()
    """Files to index for the occasion and recall from."""
    candidates: Path | None = None
    """A file of candidates that were recalled elsewhere."""
    from_topic: bool = False
    """Candidates of the answers on the answer topic."""
    top_ks: Sequence[int] = ()
    top_ns: Sequence[int] = ()
    relevant_from: int = 1
    limit: int | None = None
    """The first so many questions alone."""
    models: Sequence[str] = ()
    backends: Sequence[str] = ()
    cosine: bool = False
    judge_sample: int | None = None
    """So many pairs are graded by the LLM too; None: none."""
    bars: Bars = field(default_factory=dict)
    """What is required of the outcome: known here so that a wrong name is told before anything is scored."""


def evaluate(settings: Settings, request: Request, watch: Watch) -> Report:
    """Recall, rerank, measure. Blocks for as long as scoring takes; raises WorkerError with what is wrong in one line.

    What is wrong with the files is told before a model is loaded.
    """
    require("ir_measures", "scipy", "sklearn")
    if request.judge_sample is not None:
        require_llm(settings)
    questions, brought = (None, False) if request.queries is None else read_questions(request.queries)
    judgements = None if request.qrels is None else read_qrels(request.qrels)
    if judgements is None and not brought:
        raise FatalError("no judgements: give --qrels, or questions that bring theirs (`relevant`)")
    records = _records(settings, request)
    if records is not None:
        questions, records = matched(records, questions)
    chosen = question_set(questions or [], judgements, relevant_from=request.relevant_from)
    chosen = _limited(chosen, request.limit)
    plan = _plan(settings, request, None if records is None else max(len(each.candidates) for each in records))
    require_known(request.bars, plan.measures)
    answered = None if records is None else as_answered(records)
    # What was answered is what is asked about; another model is compared with it if it is named.
    compared = subjects(settings, request.models, request.backends, cosine=request.cosine, configured=answered is None)
    with ExitStack() as parts:
        if records is not None:
            found = candidates_of(records)
        else:
            store = parts.enter_context(indexed(settings, request.corpus, watch)) if request.corpus else settings
            found = recall(store, chosen.all, top_k=plan.top_k, watch=watch)
    _require_judged(chosen, found)
    scored: list[Scored] = [] if answered is None else [answered]
    scored += [score(each, chosen.all, found, top_ks=plan.top_ks, watch=watch) for each in compared]
    watch("measuring", 0, 0)
    report = make_report(_source(settings, request), chosen, found, scored, plan, _left_out(chosen))
    if request.judge_sample is None:
        return report
    judged = judge(settings, chosen, found, scored, sample=request.judge_sample, watch=watch)
    return report.model_copy(update={"judge": judged})


def _records(settings: Settings, request: Request) -> list[Recorded] | None:
    if request.candidates is not None:
        return read_candidates(request.candidates)
    return read_answers(settings.kafka) if request.from_topic else None


def _plan(settings: Settings, request: Request, most: int | None) -> Plan:
    """Choose the grid; ``most``: there are no more candidates than that."""
    top_ks = set(request.top_ks) or {*TOP_KS, settings.recall.top_k if most is None else most}
    if most is not None:
        top_ks = {min(top_k, most) for top_k in top_ks}
    top_n = settings.rerank.top_n
    top_ns = sorted(set(request.top_ns) or {*TOP_NS, top_n})
    if top_ns[0] > min(top_ks):
        raise FatalError(f"the smallest top_n, {top_ns[0]}, is more than the smallest top_k, {min(top_ks)}")
    return Plan(sorted(top_ks), top_ns, top_n)


def _limited(questions: QuestionSet, limit: int | None) -> QuestionSet:
    if limit is None:
        return questions
    return QuestionSet(
        questions.answerable[:limit],
        questions.unanswerable[:limit],
        questions.unjudged,
        questions.unasked,
        questions.relevant_from,
    )


def _require_judged(questions: QuestionSet, found: Found) -> None:
    """Raise FatalError where no candidate at all was judged: the ids are most likely not the collection's."""
    for question in questions.answerable:
        if any(question.document_of(candidate) in question.grades for candidate in found.get(question.id, ())):
            return
    example: Question = questions.answerable[0]
    recalled = ", ".join(repr(each.document_id) for each in found.get(example.id, ())[:3]) or "nothing"
    judged = ", ".join(map(repr, list(example.grades)[:3]))
    raise FatalError(
        f"no candidate of any question was judged; do the judgements use the collection's ids? For {example.id!r} "
        f"{recalled} was recalled, and {judged} judged"
    )


def _left_out(questions: QuestionSet) -> list[str]:
    warnings = []
    if questions.unjudged:
        warnings.append(f"{questions.unjudged} questions have no judgement and are left out.")
    if questions.unasked:
        warnings.append(f"{questions.unasked} judged questions have no text, or no candidates, here and are left out.")
    return warnings


def _source(settings: Settings, request: Request) -> str:
    if request.candidates is not None:
        return request.candidates.name
    if request.from_topic:
        return f"the topic {settings.kafka.answer_topic}"
    if request.corpus:
        return ", ".join(path.name for path in request.corpus)
    return f"the collection {settings.recall.collection}"
