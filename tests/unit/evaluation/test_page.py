"""The page: one file, whole, and nothing of a question becomes markup."""

from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.unit.evaluation.conftest import JUDGED, Reported
from worker.errors import FatalError
from worker.evaluation.page import page, require_page, write_page

VOID = {"meta", "link", "img", "br", "hr"}

Drawn = Callable[..., str]


class Reading(HTMLParser):
    """Notes elements, text and ids, and that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def drawn(reported: Reported) -> Drawn:
    """Makes the page of the report of these skills, once: its plots take their time."""
    return cache(lambda *skills: page(reported(skills)))


@pytest.mark.parametrize("skills", [[9.0], [0.0, 9.0]], ids=["one", "two"])
def test_it_is_whole_and_needs_nothing_else(drawn: Drawn, skills: list[float]) -> None:
    reading = Reading(drawn(*skills))
    assert reading.open == []
    assert reading.elements.count("svg") == 2 + 3 * len(skills)
    assert not {"script", "img", "link", "iframe"} & set(reading.elements)
    links = {value for name, value in reading.attributes if name.endswith(("href", "src")) and value}
    assert all(link.startswith("#") for link in links)
    identifiers = [value for name, value in reading.attributes if name == "id" and value and "_" not in value]
    clips = [identifier for identifier in identifiers if identifier.startswith("p")]
    assert len(clips) == len(set(clips))


def test_the_verdict_and_the_figures_are_there(reported: Reported, drawn: Drawn) -> None:
    report = reported([0.0, 9.0])
    text = " ".join(Reading(drawn(0.0, 9.0)).text.split())
    for each in report.reranked:
        assert each.verdict.sentence in text
        assert f"{each.values['nDCG@10']:.3f}" in text
    assert "a note" in text


def test_a_question_is_text_whatever_it_holds(drawn: Drawn) -> None:
    written = drawn(9.0)
    assert "question <" not in written
    assert "question &lt;" in written


def test_what_was_not_measured_is_left_out(reported: Reported) -> None:
    reading = Reading(page(reported([9.0], timed=False)))
    assert "ms a query;" not in reading.text


def test_the_same_figures_give_the_same_page(reported: Reported, drawn: Drawn) -> None:
    assert page(reported([9.0])) == drawn(9.0)


def test_it_is_written_as_utf_8_and_a_place_that_takes_none_is_told(reported: Reported, tmp_path: Path) -> None:
    require_page()
    write_page(tmp_path / "report.html", reported([9.0]))
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(FatalError, match=r"report\.html cannot be written: No such file"):
        write_page(tmp_path / "missing" / "report.html", reported([9.0]))


def test_a_second_opinion_is_shown_with_what_a_person_should_look_at(reported: Reported, drawn: Drawn) -> None:
    reading = Reading(page(reported([9.0]).model_copy(update={"judge": JUDGED})))
    text = " ".join(reading.text.split())
    assert "Of 20 pairs that were judged before it agrees on 85 % (kappa 0.70). Of 9 that nobody had judged" in text
    assert "calls 4 relevant. 1 were given no grade." in text
    assert "<why>?d7" in text
    assert "Judged by" not in Reading(drawn(9.0)).text
