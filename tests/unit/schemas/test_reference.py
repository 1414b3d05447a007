"""The reference page of the events says what the contract says."""

import re
from pathlib import Path

import pytest

from schemas import reference as docs
from schemas.contexts import ContextsEvent, ContextsTimings
from schemas.documents import DocumentEvent
from schemas.events import AnswerEvent, CandidateInfo, QueryEvent
from schemas.replies import REPLY_REFUSED
from schemas.wire import DEAD_LETTER_HEADERS, PASSED_THROUGH

REPOSITORY = Path(__file__).parents[3]


def section(title: str) -> str:
    """One section without those below it."""
    [found] = re.findall(rf"^##+ {title}\n(.*?)(?=^##|\Z)", docs.page(), re.MULTILINE | re.DOTALL)
    return str(found)


def cells(title: str) -> dict[str, list[str]]:
    rows = [re.split(r" \| ", line.strip("| ")) for line in section(title).splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_the_committed_page_is_generated_from_the_contract() -> None:
    assert (REPOSITORY / docs.PAGE).read_text(encoding="utf-8") == docs.page(), "run: make docs"


def test_every_field_and_header_is_described() -> None:
    assert cells("Query event").keys() == QueryEvent.model_fields.keys()
    assert cells("Answer event").keys() == AnswerEvent.model_fields.keys()
    assert cells("Contexts event").keys() == ContextsEvent.model_fields.keys()
    assert cells("ContextsTimings").keys() == ContextsTimings.model_fields.keys()
    assert cells("Document event").keys() == DocumentEvent.model_fields.keys()
    assert cells("CandidateInfo").keys() == CandidateInfo.model_fields.keys()
    assert cells("Dead letter").keys() == DEAD_LETTER_HEADERS.keys()
    assert cells("Headers of queries and answers").keys() == PASSED_THROUGH
    assert cells("Headers of answers").keys() == {REPLY_REFUSED}


@pytest.mark.parametrize(
    ("event", "field", "kind", "required"),
    [
        ("Query event", "id", "string of 1 to 128 characters", "yes"),
        ("Query event", "top_k", "integer ≥ 1, ≤ 1,000 or null", "no"),
        ("Query event", "generate", "boolean or null", "no (default `true`)"),
        ("Query event", "where", "object or null", "no"),
        ("Answer event", "status", "`ok`, `degraded`, `no_context`, `expired`, `failed`", "yes"),
        ("Answer event", "contexts", "array of [ContextInfo](#contextinfo)", "yes"),
        ("Answer event", "answered_at", "date-time", "yes"),
        ("Contexts event", "stage", "`contexts`", "yes"),
        ("Contexts event", "contexts", "array of [ContextInfo](#contextinfo)", "yes"),
        ("Document event", "op", "`upsert`, `delete` or null", "no"),
        ("Dead letter", "attempts", "string `^[0-9]+$`", "yes"),
    ],
)
def test_types_and_defaults_are_readable(event: str, field: str, kind: str, required: str) -> None:
    assert cells(event)[field][:2] == [kind, required]


def test_an_object_that_two_events_hold_is_described_once() -> None:
    headings = re.findall(r"^#+ (.+)$", docs.page(), re.MULTILINE)
    assert len(headings) == len(set(headings))


def test_every_link_within_the_page_leads_to_a_heading() -> None:
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", docs.page(), re.MULTILINE)}
    assert set(re.findall(r"\(#(\w+)\)", docs.page())) <= headings
