"""Which of two events of a document is the later one."""

import pytest

from worker.documents.stream.marks import Mark

STORED = Mark(partition=3, offset=100, timestamp_ms=1_000)

EVENTS = {
    "the next one": (Mark(3, 101, 1_001), False),
    "itself, again": (STORED, False),
    "one before it, again": (Mark(3, 99, 999), True),
    "one before it, of the same millisecond": (Mark(3, 99, 1_000), True),
    "one behind it, by a clock that is late": (Mark(3, 101, 500), False),
    "the first of a topic made again": (Mark(3, 0, 2_000), False),
    "one a mirror has brought over": (Mark(3, 5, 1_000), True),
    "a later one of another partition": (Mark(7, 0, 1_001), False),
    "an earlier one of another partition": (Mark(7, 5_000, 999), True),
    "one before it, without a timestamp": (Mark(3, 99, None), True),
    "one of another partition, without a timestamp": (Mark(7, 99, None), False),
}


@pytest.mark.parametrize(("event", "undone"), EVENTS.values(), ids=EVENTS.keys())
def test_what_came_before_is_undone_and_nothing_else(event: Mark, undone: bool) -> None:
    assert STORED.is_newer_than(event) is undone


@pytest.mark.parametrize("mark", [STORED, Mark(0, 0, None)], ids=["with a timestamp", "without"])
def test_a_mark_comes_back_from_the_store_as_it_was(mark: Mark) -> None:
    assert Mark.from_stored({"title": "T", **mark.stored}) == mark


def test_what_files_have_put_there_has_no_mark() -> None:
    assert Mark.from_stored({"title": "T", "_source": "corpus.jsonl"}) is None
