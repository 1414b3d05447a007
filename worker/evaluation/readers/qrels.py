"""Judgements from a file: BEIR's table (query, document, grade) or TREC's qrels (query, round, document, grade)."""

from pathlib import Path

from worker.errors import FatalError
from worker.evaluation.questions import Judgements
from worker.evaluation.readers.lines import Line, read_lines

BEIR_COLUMNS, TREC_COLUMNS = 3, 4
HEADER = {"query-id", "query_id", "qid"}
"""What the first cell of a header may be called."""


def read_qrels(path: Path) -> Judgements:
    """Return the grades of a file by question and document; a negative one is kept: judged, and not relevant.

    FatalError names the line that is wrong: too few cells, a grade that is no whole number, a pair that was graded
    otherwise before. The same line twice does no harm.
    """
    judgements: dict[str, dict[str, int]] = {}
    for position, line in enumerate(read_lines(path)):
        cells = _cells(line)
        if position == 0 and cells[0].lower() in HEADER:
            continue
        question, document, grade = cells[0], cells[-2], _grade(cells[-1], line)
        known = judgements.setdefault(question, {}).setdefault(document, grade)
        if known != grade:
            raise line.error(f"{document!r} is graded {grade} for {question!r} here, and {known} further up")
    if not judgements:
        raise FatalError(f"{path} holds no judgement")
    return judgements


def _cells(line: Line) -> list[str]:
    # A tab separates cells that may hold blanks; without one, blanks do.
    cells = [cell.strip() for cell in line.text.split("\t")] if "\t" in line.text else line.text.split()
    if len(cells) not in {BEIR_COLUMNS, TREC_COLUMNS}:
        raise line.error(
            f"{len(cells)} cells; expected `query document grade` (BEIR) or `query round document grade` (TREC)"
        )
    if not all(cells):
        raise line.error("an empty cell: query, document and grade are all needed")
    return cells


def _grade(cell: str, line: Line) -> int:
    try:
        grade = float(cell)
    except ValueError:
        grade = float("nan")
    if not grade.is_integer():
        raise line.error(f"the grade {cell!r} is no whole number")
    return int(grade)
