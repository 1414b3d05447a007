"""Every code that the worker's code can give has a sentence."""

import re
from pathlib import Path

import pytest

import worker
from worker.errors import RefusedError, TransientError
from worker.query.failures import SENTENCES, code_of, sentence

# code="llm_declined", and code=f"{service}_busy" for each service.
CODE = re.compile(r'code=f?"((?:\{[\w.]+\})?\w+)"')
SERVICES = re.findall(
    r'^SERVICE = "(\w+)"',
    "\n".join(path.read_text(encoding="utf-8") for path in Path(worker.__file__).parent.rglob("*.py")),
    re.MULTILINE,
)


def codes() -> set[str]:
    found = set()
    for path in Path(worker.__file__).parent.rglob("*.py"):
        for code in CODE.findall(path.read_text(encoding="utf-8")):
            _, brace, ending = code.rpartition("}")
            found |= {service + ending for service in SERVICES} if brace else {code}
    return found


def test_every_code_has_a_sentence_and_every_sentence_a_code() -> None:
    assert sorted(SERVICES) == ["llm", "reranker"]
    assert codes() | {"recall_failed", "rerank_failed", "answer_failed"} == set(SENTENCES)


@pytest.mark.parametrize(
    ("error", "code"),
    [(TransientError("x", code="llm_busy"), "llm_busy"), (RefusedError("x"), "answer_failed")],
)
def test_a_code_is_the_errors_or_the_stages(error: TransientError, code: str) -> None:
    assert code_of(error, "answer") == code


def test_a_code_nobody_has_put_down_says_nothing_of_anybody() -> None:
    assert sentence("who knows") == "a part the query needs has failed"
