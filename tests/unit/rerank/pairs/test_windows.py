"""Which tokens of a long document are read together."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.rerank.pairs.windows import OVERLAP, windows


@given(tokens=st.integers(0, 3_000), room=st.integers(1, 600), at_most=st.integers(1, 12))
def test_windows_cover_a_document_as_far_as_their_number_allows(tokens: int, room: int, at_most: int) -> None:
    read = windows(tokens, room, at_most)
    assert 1 <= len(read) <= at_most
    assert read[0].start == 0
    assert all(len(window) <= room for window in read)
    assert all(len(window) == room for window in read[:-1])
    for one, following in pairwise(read):
        assert one.stop - following.start == room // OVERLAP
        assert one.stop < tokens, "the next one has something new"
    assert read[-1].stop == tokens or len(read) == at_most


def test_a_document_that_fits_is_one_window() -> None:
    assert windows(80, 80, 8) == [range(80)]
    assert windows(0, 80, 8) == [range(0)]


def test_a_longer_one_overlaps_by_an_eighth() -> None:
    assert windows(200, 80, 8) == [range(80), range(70, 150), range(140, 200)]
    assert windows(200, 80, 2) == [range(80), range(70, 150)]
