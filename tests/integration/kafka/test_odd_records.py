"""Records that only other clients can write, on real Kafka: each is its own affair."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.raw_producer import produce_raw
from tests.topics import held

pytestmark = pytest.mark.slow


async def test_a_header_that_can_not_be_read_is_that_records_dead_letter_and_the_others_are_answered(
    new_bench: Callable[..., Any],
) -> None:
    bench = new_bench(partitions=1)
    servers, topic = bench.kafka.bootstrap_servers, bench.kafka.query_topic
    async with bench.running():
        for number in range(3):
            produce_raw(servers, topic, b"before %d" % number, headers=[(b"fine", b"1")])
            produce_raw(servers, topic, b"odd %d" % number, headers=[(b"caf\xe9", b"x")], key=b"\xff")
            produce_raw(servers, topic, b"after %d" % number)
        await bench.until_committed(9)
    letters = await asyncio.to_thread(held, bench.kafka, bench.kafka.dead_letter_topic)
    assert [(letter.key(), letter.value()) for letter in letters] == [(b"\xff", b"odd %d" % n) for n in range(3)]
    answered = await bench.read_all(bench.kafka.answer_topic)
    assert sorted(answered) == sorted(b"%s %d" % (word, n) for word in (b"before", b"after") for n in range(3))
