"""Candidates that were recalled elsewhere: answer events that carried theirs, or a line a question with passages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field, StrictInt, StrictStr, ValidationError

from schemas import wire
from worker.domain import Candidate, Metadata
from worker.errors import FatalError
from worker.evaluation.readers.lines import Line, read_lines


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recalled for a question, and what a reranker made of it then."""

    question_id: str
    text: str
    candidates: Sequence[Candidate]
    """In recall order."""
    scores: Sequence[float] | None = None
    """Of the candidates, in their order; None if they were not reranked, or reranking failed."""
    windows: int = 0
    """Pairs that were scored, several where a document was read in windows."""
    model: str = ""
    """What scored them."""
    rerank_s: float | None = None
    """How long that took, waiting for a micro-batch included."""


class _Passage(BaseModel):
    id: StrictStr | StrictInt = Field(validation_alias=AliasChoices("id", "document_id", "_id", "docid"))
    text: StrictStr
    metadata: Metadata = Field(default_factory=dict)
    recall_rank: int | None = None
    distance: float = 0.0
    rerank_score: float | None = None
    rerank_windows: int | None = None


class _Timings(BaseModel):
    rerank: float


class _Models(BaseModel):
    cross_encoder: str | None = None


class _Row(BaseModel):
    """An answer event, or what looks like one."""

    id: StrictStr | StrictInt = Field(validation_alias=AliasChoices("query_id", "qid", "id", "_id"))
    text: StrictStr = Field(validation_alias=AliasChoices("query_text", "query", "text"))
    passages: list[_Passage] | None = Field(validation_alias=AliasChoices("candidates", "passages"))
    timings_ms: _Timings | None = None
    models: _Models = _Models()

    @property
    def failed(self) -> bool:
        """Whether a worker answered in recall order, for its reranker failed."""
        return self.timings_ms is not None and any(each.rerank_score is None for each in self.passages or ())


def read_candidates(path: Path) -> list[Recorded]:
    """Return what a file of JSON lines holds; FatalError names the line that is wrong. See ``recorded``."""
    return recorded(read_lines(path), str(path), once=True)


def recorded(lines: Iterable[Line], source: str, *, once: bool) -> list[Recorded]:
    """Return what the lines hold; answers without candidates, or not reranked, are passed over: FatalError if all are.

    An answer of the worker keeps the scores it was given; other passages are in the order of the line. ``once``: a
    question that comes again is an error; else each answer to it is returned.
    """
    found: list[Recorded] = []
    known: dict[str, Line] = {}
    for line in lines:
        try:
            row = _Row.model_validate_json(line.text)
        except ValidationError as error:
            raise line.error(wire.summary(error)) from error
        if row.passages and not row.failed:
            first = known.setdefault(str(row.id), line)
            if once and first is not line:
                raise line.error(f"the question {str(row.id)!r} is already that of {first.where}")
            found.append(_recorded(row, row.passages, line))
    if not found:
        raise FatalError(f"{source} holds no candidates: the queries must ask for them with `include_candidates`")
    return found


def _recorded(row: _Row, passages: list[_Passage], line: Line) -> Recorded:
    ordered = sorted(passages, key=lambda passage: passage.recall_rank or 0)
    if len({passage.id for passage in ordered}) < len(ordered):
        raise line.error(f"the question {str(row.id)!r} has a candidate twice")
    candidates = [
        Candidate(str(each.id), each.text, rank, each.distance, metadata=each.metadata)
        for rank, each in enumerate(ordered, 1)
    ]
    scores = [each.rerank_score for each in ordered if each.rerank_score is not None]
    return Recorded(
        str(row.id),
        row.text,
        candidates,
        scores if len(scores) == len(ordered) else None,
        sum(each.rerank_windows or 1 for each in ordered),
        row.models.cross_encoder or "",
        None if row.timings_ms is None else row.timings_ms.rerank / 1000,
    )
