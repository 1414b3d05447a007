"""Rebalances on real Kafka, with both group protocols: members come and go, one of them in the middle of its work."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.patience import HANG_S

pytestmark = pytest.mark.slow

NewBench = Callable[..., Any]
both_protocols = pytest.mark.parametrize("protocol", ["classic", "consumer"])


@both_protocols
async def test_members_that_come_and_go_in_order_lose_nothing_and_repeat_nothing(
    new_bench: NewBench, protocol: str
) -> None:
    bench = new_bench(group_protocol=protocol, partitions=4)
    async with bench.running(worker_id="stays"):
        for round_number in range(4):
            async with bench.running(worker_id=f"guest-{round_number}") as guest:
                for partition in range(4):
                    first = (round_number * 4 + partition) * 125
                    bench.produce(*[b"%d" % n for n in range(first, first + 125)], partition=partition)
                await bench.until(lambda guest=guest: guest.delivery.assigned_partitions > 0)
        await bench.until_committed(500, 500, 500, 500)
    # The last commit of a revoke has come in time: its new owner began where the former one had ended.
    assert sorted(map(int, await bench.read_all(bench.kafka.answer_topic))) == list(range(2_000))


@both_protocols
async def test_the_last_commit_of_a_revoke_holds_up_nobody_and_is_where_the_next_owner_begins(
    new_bench: NewBench, protocol: str
) -> None:
    bench = new_bench(group_protocol=protocol)

    async def until_answered(count: int) -> None:
        while len(await bench.read_all(bench.kafka.answer_topic)) < count:
            await asyncio.sleep(0.05)

    # Only the revoke commits.
    async with bench.running(worker_id="first", revoke_timeout_s=10 * HANG_S, commit_interval_s=10 * HANG_S):
        bench.produce(b"0", partition=0)
        bench.produce(b"1", partition=1)
        await until_answered(2)
        assert await bench.committed() == [0, 0]
        # A revoke that waits for its commit takes all its time.
        async with asyncio.timeout(HANG_S), bench.running(worker_id="second") as second:
            await bench.until(lambda: second.delivery.assigned_partitions == 1)
            bench.produce(b"more", partition=0)
            bench.produce(b"more", partition=1)
            await until_answered(4)
    assert sorted(await bench.read_all(bench.kafka.answer_topic)) == [b"0", b"1", b"more", b"more"]


@both_protocols
async def test_a_query_that_outlasts_the_revoke_is_left_to_the_new_owner(new_bench: NewBench, protocol: str) -> None:
    bench = new_bench(group_protocol=protocol)
    async with bench.running(b"slow 0", b"slow 1", worker_id="first", revoke_timeout_s=2) as first:
        for partition in range(2):
            bench.produce(b"before", b"slow %d" % partition, b"behind", partition=partition)
        await bench.until_committed(1, 1)
        async with bench.running(worker_id="second") as second:
            await bench.until(lambda: second.delivery.assigned_partitions == 1)
            await bench.until(lambda: len(second.delivery.progress) == 1)
            moved = second.delivery.progress[0].partition
            # The one that has moved is done by the second; the other still waits at the first.
            await bench.until_committed(*[3 if partition == moved else 1 for partition in range(2)])
            for gate in first.gates.values():
                gate.set()
            await bench.until_committed(3, 3)
    answers = await bench.read_all(bench.kafka.answer_topic)
    # What was answered behind the slow query before the revoke could not be committed and is answered again.
    assert sorted(set(answers)) == [b"before", b"behind", b"slow 0", b"slow 1"]
    assert answers.count(b"slow 0") == answers.count(b"slow 1") == 1
    assert 2 <= answers.count(b"behind") <= 3


@both_protocols
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_intake_that_was_paused_goes_on_after_a_rebalance(
    new_bench: NewBench, protocol: str, guarantee: str
) -> None:
    bench = new_bench(group_protocol=protocol, delivery_guarantee=guarantee, max_in_flight=4, poll_batch=2)
    async with bench.running(b"0", b"1", b"2", b"3", worker_id="first", revoke_timeout_s=1) as first:
        bench.produce(*[b"%d" % n for n in range(4)], *[b"more"] * 50, partition=0)
        bench.produce(*[b"elsewhere"] * 50, partition=1)
        await bench.until(lambda: any(p.paused for p in first.delivery.progress))
        async with bench.running(worker_id="second") as second:
            await bench.until(lambda: second.delivery.assigned_partitions == 1)
            for gate in first.gates.values():
                gate.set()
            await bench.until_committed(54, 50)


@both_protocols
async def test_the_partitions_of_a_static_member_wait_for_it(new_bench: NewBench, protocol: str) -> None:
    bench = new_bench(group_protocol=protocol, session_timeout_s=60.0)
    bench.configure_group(consumer_session_timeout_ms="60000")
    async with bench.running(worker_id="stays", group_instance_id="stays") as stays:
        async with bench.running(worker_id="returns", group_instance_id="returns") as returns:
            await bench.until(lambda: stays.delivery.assigned_partitions == returns.delivery.assigned_partitions == 1)
            bench.produce(b"before", partition=0)
            bench.produce(b"before", partition=1)
            await bench.until_committed(1, 1)
            [own] = [progress.partition for progress in stays.delivery.progress]
        bench.produce(*[b"meanwhile"] * 10, partition=0)
        bench.produce(*[b"meanwhile"] * 10, partition=1)
        await bench.until_committed(*[11 if partition == own else 1 for partition in range(2)])
        assert stays.delivery.assigned_partitions == 1
        async with bench.running(worker_id="returns", group_instance_id="returns"):
            await bench.until_committed(11, 11)
            assert [progress.partition for progress in stays.delivery.progress] == [own]
    assert len(await bench.read_all(bench.kafka.answer_topic)) == 22
