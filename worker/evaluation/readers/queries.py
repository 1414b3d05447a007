"""Questions from a file: JSON lines (BEIR's, or ours with their judgements), TREC topics, or a table of id and text."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field, StrictInt, StrictStr, ValidationError

from schemas import wire
from worker.errors import FatalError
from worker.evaluation.questions import Question
from worker.evaluation.readers.lines import Line, read_lines

TAG = re.compile(r"<(/?)(\w+)>")
NUMBER = re.compile(r"^\s*(?:Number:)?\s*(\S+)\s*$")
TITLE = re.compile(r"^\s*(?:Topic:)?\s*(.*?)\s*$")


class _Row(BaseModel):
    """One line of JSON; what else it holds is not read."""

    id: StrictStr | StrictInt = Field(validation_alias=AliasChoices("id", "_id", "qid", "query_id"))
    text: StrictStr = Field(validation_alias=AliasChoices("text", "query", "question"))
    relevant: dict[str, int] | None = None


def read_questions(path: Path) -> tuple[list[Question], bool]:
    """Return the questions of a file in its order, and whether they bring their judgements (`relevant`).

    The first line tells the format. FatalError names the line that is wrong: no id, no text, an id that was there.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise FatalError(f"{path} holds no question")
    lines = chain([first], lines)
    match first.text.lstrip()[0]:
        case "{":
            rows = list(_json_rows(lines))
        case "<":
            rows = list(_topics(lines))
        case _:
            rows = list(_table(lines))
    _refuse_doubles(rows)
    with_judgements = [question for question, _, judged in rows if judged]
    if with_judgements and len(with_judgements) < len(rows):
        line = next(line for _, line, judged in rows if not judged)
        raise line.error("has no `relevant`, though other lines of the file have; `{}` says that nothing answers it")
    return [question for question, _, _ in rows], bool(with_judgements)


_Read = tuple[Question, Line, bool]


def _json_rows(lines: Iterator[Line]) -> Iterator[_Read]:
    for line in lines:
        try:
            row = _Row.model_validate_json(line.text)
        except ValidationError as error:
            raise line.error(wire.summary(error)) from error
        yield _question(str(row.id), row.text, line, row.relevant), line, row.relevant is not None


def _table(lines: Iterator[Line]) -> Iterator[_Read]:
    for line in lines:
        identifier, tab, text = line.text.partition("\t")
        if not tab:
            raise line.error("neither JSON nor a TREC topic nor `id<tab>text`")
        yield _question(identifier.strip(), text, line), line, False


def _topics(lines: Iterator[Line]) -> Iterator[_Read]:
    """Read `<top>` elements: `<num>` and `<title>`, closed or not, on one line or on several."""
    fields: dict[str, str] = {}
    begun: Line | None = None
    open_field: str | None = None
    for line in lines:
        position = 0
        for tag in chain(TAG.finditer(line.text), [None]):
            said = line.text[position : tag.start() if tag else None].strip()
            if open_field is not None and said:
                fields[open_field] = f"{fields.get(open_field, '')} {said}".strip()
            if tag is None:
                break
            position = tag.end()
            closes, name = tag[1] == "/", tag[2].lower()
            open_field = None if closes or name == "top" else name
            if name == "top" and not closes:
                fields, begun = {}, line
            elif name == "top":
                yield _topic(fields, begun or line), begun or line, False
                begun = None
    if begun is not None:
        raise begun.error("this <top> is never closed")


def _topic(fields: dict[str, str], line: Line) -> Question:
    number = NUMBER.match(fields.get("num", ""))
    if number is None:
        raise line.error("a topic without <num>")
    title = TITLE.match(fields.get("title", ""))
    return _question(number[1], title[1] if title else "", line)


def _question(identifier: str, text: str, line: Line, grades: dict[str, int] | None = None) -> Question:
    if not identifier or identifier.isspace():
        raise line.error("a question without an id")
    if not text or text.isspace():
        raise line.error(f"the question {identifier!r} has no text")
    return Question(identifier, text.strip(), grades or {})


def _refuse_doubles(rows: list[_Read]) -> None:
    known: dict[str, Line] = {}
    for question, line, _ in rows:
        if question.id in known:
            raise line.error(f"the id {question.id!r} is already that of {known[question.id].where}")
        known[question.id] = line
