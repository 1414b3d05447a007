"""The collector leaves alone what was loaded, and still finds what is lost later."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from worker.app.heap import YOUNG_OBJECTS, settle_heap


class Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_lives_is_not_looked_at_any_more() -> None:
    loaded = Node()
    settle_heap()
    assert all(each is not loaded for each in gc.get_objects())


def test_cycles_that_are_lost_later_are_collected_without_being_asked_for() -> None:
    settle_heap()
    lost = weakref.ref(Node())
    kept = [[] for _ in range(2 * YOUNG_OBJECTS)]
    assert lost() is None
    assert len(kept) == 2 * YOUNG_OBJECTS
