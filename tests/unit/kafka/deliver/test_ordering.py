"""The order of publishing against what each setting promises, for any order in which outcomes are made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kafka.deliver.ordering import Ordering, PublishOrder


def lane(ordering: Ordering, key: bytes | None) -> bytes | None:
    if ordering == "none" or (ordering == "key" and key is None):
        return None
    return key if ordering == "key" else b"the partition"


@given(
    st.sampled_from(["none", "key", "partition"]),
    st.lists(st.sampled_from([None, b"a", b"b", b""]), max_size=20),
    st.data(),
)
def test_outcomes_leave_in_the_order_of_their_lane_and_wait_for_nothing_else(
    ordering: Ordering, keys: list[bytes | None], data: st.DataObject
) -> None:
    order = PublishOrder(ordering)
    unmade = list(range(len(keys)))
    for offset in unmade:
        order.admit(offset, keys[offset])
    may_go: list[int] = []
    made: set[int] = set()
    published: list[int] = []

    while unmade or may_go:
        if may_go and (not unmade or data.draw(st.booleans())):
            offset = may_go.pop(data.draw(st.integers(0, len(may_go) - 1)))
            published.append(offset)
            follower = order.published(offset)
            if follower is not None:
                may_go.append(follower)
        else:
            offset = unmade.pop(data.draw(st.integers(0, len(unmade) - 1)))
            made.add(offset)
            if order.made(offset):
                may_go.append(offset)
        for offset in made - set(published):
            own = lane(ordering, keys[offset])
            before = [n for n in range(offset) if own is not None and lane(ordering, keys[n]) == own]
            assert (offset in may_go) == (set(before) <= set(published))

    assert sorted(published) == list(range(len(keys)))


@pytest.mark.parametrize(("ordering", "waits"), [("none", []), ("key", [1]), ("partition", [1, 2, 3])])
def test_who_waits_for_a_slow_first_query(ordering: Ordering, waits: list[int]) -> None:
    order = PublishOrder(ordering)
    for offset, key in enumerate([b"a", b"a", b"b", None]):
        order.admit(offset, key)
    assert [offset for offset in (1, 2, 3) if not order.made(offset)] == waits
