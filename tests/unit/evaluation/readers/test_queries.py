"""Questions in every format that is read, and the odd things their files hold."""

from pathlib import Path

import pytest

from worker.documents.samples import corpus
from worker.errors import FatalError
from worker.evaluation.questions import Question
from worker.evaluation.readers.queries import read_questions

SAMPLE = Path(corpus.__file__).with_name("questions.jsonl")


TREC = """\
<top>
<num> Number: 7
<title> why?

<desc> Description:
Not asked.
</top>
<top>
<num> Number: 8
<title> Topic: how?
</top>
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queries"


@pytest.mark.parametrize(
    "content",
    [
        '{"_id": "7", "text": "why?", "metadata": {}}\n{"_id": "8", "text": "how?"}\n',
        '\ufeff{"id": 7, "text": " why? "}\r\n\r\n{"id": 8, "text": "how?"}',
        "7\twhy?\n8\thow?\n",
        TREC,
        "<topics><top><num>7</num><title>why?</title></top>\n<top><num>8</num>\n<title>\nhow?\n</title></top></topics>",
    ],
    ids=["beir", "bom-crlf-integers", "table", "trec", "trec-closed"],
)
def test_questions_are_read(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="")
    assert read_questions(path) == ([Question("7", "why?"), Question("8", "how?")], False)


def test_our_own_bring_their_judgements(path: Path) -> None:
    path.write_text('{"id": "a", "text": "why?", "relevant": {"d": 3}}\n{"id": "b", "text": "x", "relevant": {}}\n')
    assert read_questions(path) == ([Question("a", "why?", {"d": 3}), Question("b", "x")], True)


def test_the_sample_questions_are_read() -> None:
    questions, judged = read_questions(SAMPLE)
    assert judged
    assert [(each.id, each.text, each.grades) for each in questions] == [
        (each.id, each.text, each.relevant) for each in corpus.questions()
    ]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('{"_id": "7", "text": "why?"}\n{"text": "how?"}', 2, "id: is missing"),
        ('{"_id": "7"}', 1, "text: is missing"),
        ('{"_id": "7", "text": "why?"}\n\n{"_id": "8", "text": " "}', 3, "'8' has no text"),
        ('{"_id": " ", "text": "why?"}', 1, "without an id"),
        ('{"_id": "7", "text": "why?"}\n{nonsense', 2, "JSON"),
        ('{"_id": "7", "text": "why?", "relevant": {"d": 1}}\n{"_id": "8", "text": "x"}', 2, "has no `relevant`"),
        ("7\twhy?\nhow?", 2, "neither JSON nor a TREC topic"),
        ("\twhy?", 1, "without an id"),
        ("7\twhy?\n8\thow?\n7\twho?", 3, r"'7' is already that of .*queries:1"),
        ("<top>\n<title> why?\n</top>", 1, "without <num>"),
        ("<top>\n<num> 7\n</top>", 1, "'7' has no text"),
        ("<top>\n<num> 7\n<title> why?\n</top>\n<top>\n<num> 8\n", 5, "never closed"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(path: Path, content: str, line: int, said: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FatalError, match=rf"queries:{line}: .*{said}"):
        read_questions(path)


def test_an_empty_file_is_told(path: Path) -> None:
    path.write_text("\n")
    with pytest.raises(FatalError, match="holds no question"):
        read_questions(path)
