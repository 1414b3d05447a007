"""Query records as nobody should send them, by hypothesis: headers, keys, filters and timestamps of every kind."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from schemas import wire
from schemas.limits import MAX_FILTER_DEPTH, MAX_FILTER_OPERANDS, MAX_FILTER_VALUES
from tests.raw_producer import RawHeader

MOST_BYTES = 900_000
"""A topic takes a megabyte, by default."""


def around(limit: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 2, limit - 1, limit, limit + 1, 4 * limit])


texts = st.one_of(st.text(max_size=6), st.sampled_from(["", "topic", "$or", "x" * 5_000, "\ud800", "\x00", "🦆"]))
scalars = st.one_of(
    texts,
    st.booleans(),
    st.none(),
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400, 5e-324, 1e308]),
)
operators = st.sampled_from(
    ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$and", "$or", "$contains", "$where", "$"]
)


@st.composite
def lists(draw: st.DrawFn) -> list[Any]:
    return [draw(st.one_of(scalars, st.just([]), st.just({})))] * draw(around(MAX_FILTER_VALUES))


comparisons = st.dictionaries(
    texts,
    st.one_of(scalars, lists(), st.dictionaries(operators, st.one_of(scalars, lists()), max_size=2)),
    max_size=2,
)


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    where = draw(comparisons)
    for _ in range(draw(st.integers(0, 2))):
        logical = draw(st.sampled_from(["$and", "$or"]))
        if draw(st.booleans()):
            where = {logical: [where] * draw(around(MAX_FILTER_OPERANDS))}
        else:
            for _ in range(draw(around(MAX_FILTER_DEPTH))):
                where = {logical: [where, draw(comparisons)]}
    return where


names = st.one_of(
    st.sampled_from([name.encode() for name in sorted(wire.PASSED_THROUGH | wire.DEAD_LETTER_HEADERS.keys())]),
    st.sampled_from([b"", b"ce_id", b"CE_ID", b"content-type", b"rerank-worker.attempts", b"caf\xe9", b"\xff" * 200]),
    st.binary(max_size=8),
    st.text(max_size=4).map(lambda text: text.encode(errors="surrogatepass")),
)
contents = st.one_of(
    st.none(),
    st.binary(max_size=12),
    st.sampled_from([b"", b"999999", b"-1", b"\xff" * 20_000, b"application/cloudevents+json", b"00-" + b"a" * 60]),
)


@st.composite
def header_lists(draw: st.DrawFn) -> list[RawHeader]:
    return draw(st.lists(st.tuples(names, contents), max_size=4)) * draw(st.sampled_from([1, 1, 1, 30]))


@dataclass(frozen=True)
class Case:
    """A record to be; what tells it from others is added when it is sent."""

    headers: list[RawHeader]
    key: bytes | None
    where: Any
    timestamp_ms: int
    deadline_ms: int | None
    wrapping: str

    @property
    def size(self) -> int:
        """Bytes, more or less."""
        headers = sum(len(name) + len(held or b"") for name, held in self.headers)
        return headers + len(self.key or b"") + len(self.value("q"))

    def value(self, query_id: str) -> bytes:
        event: dict[str, Any] = {"id": query_id, "text": "capital of france", "generate": False, "top_k": 1}
        if self.where is not None:
            event["where"] = self.where
        if self.deadline_ms is not None:
            event["deadline_ms"] = self.deadline_ms
        match self.wrapping:
            case "cloud event":
                return json.dumps({"specversion": "1.0", "data": event}).encode()
            case "frame":
                return b"\x00\x00\x00\x00\x07" + json.dumps(event).encode()
            case _:
                return json.dumps(event).encode()


PLAIN = Case([], b"plain", None, 0, None, "")
cases = st.builds(
    Case,
    headers=header_lists(),
    key=st.one_of(st.none(), st.binary(max_size=12), st.sampled_from([b"", b"\xff\xfe", b"k" * 100_000])),
    where=st.one_of(st.none(), filters(), filters(), filters(), scalars),
    timestamp_ms=st.sampled_from([0, 0, 0, 1, -1, -(2**40), 10**12, 253_402_300_800_000, 2**53, 2**62]),
    deadline_ms=st.sampled_from([None, None, 1, 60_000, 604_800_000]),
    wrapping=st.sampled_from(["", "", "cloud event", "frame"]),
).filter(lambda case: case.size <= MOST_BYTES)
