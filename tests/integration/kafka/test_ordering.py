"""The order in which answers leave, on real Kafka and for both guarantees."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("settings", "ahead_of_the_slow_one"),
    [
        ({"ordering": "none"}, [b"a2", b"b1"]),
        ({"ordering": "key"}, [b"b1"]),
        ({"ordering": "partition"}, []),
        ({"ordering": "key", "delivery_guarantee": "exactly_once"}, []),
    ],
)
async def test_what_overtakes_a_slow_query(
    new_bench: Callable[..., Any], settings: dict[str, str], ahead_of_the_slow_one: list[bytes]
) -> None:
    bench = new_bench(**settings)
    async with bench.running(b"a1") as worker:
        for key, value in ((b"a", b"a1"), (b"a", b"a2"), (b"b", b"b1")):
            bench.produce(value, key=key)
        # Another partition is never held back: its answer tells that the three have been taken in.
        bench.produce(b"elsewhere", partition=1)
        reader = bench.read(bench.kafka.answer_topic)
        await bench.until(lambda: {b"elsewhere", *ahead_of_the_slow_one} <= set(reader.values))
        assert set(reader.values) == {b"elsewhere", *ahead_of_the_slow_one}
        worker.gates[b"a1"].set()
        await bench.until_committed(3, 1)
    answers = [value for value in await bench.read_all(bench.kafka.answer_topic) if value.startswith(b"a")]
    assert len(answers) == 2
    if settings["ordering"] != "none":
        assert answers == [b"a1", b"a2"]
